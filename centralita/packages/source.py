"""A lock met: from a request for packages to their files, keeping to the lock where a mirror still allows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from centralita.ground import ledger
from centralita.ground.cache import digest_of
from centralita.ground.errors import CentralitaError
from centralita.ground.report import get_reporter
from centralita.packages.apt import PrivateApt
from centralita.packages.fetch import Fetched, deb_path, fetch_packages
from centralita.packages.lockfile import Lock, LockChange, LockedPackage, diff_locks, load_lock
from centralita.packages.mirror import (
    MirrorUnreachableError,
    Release,
    check_expiry,
    host_mirror,
    keyring,
    verify_release,
)


@dataclass(frozen=True)
class Request:
    """What is asked of which mirror. ``mirror`` None means the build host's own; ``provides`` counts as installed."""

    names: tuple[str, ...]
    suite: str
    components: tuple[str, ...] = ("main",)
    mirror: str | None = None
    accept_expired: bool = False
    snapshots: tuple[str, ...] = ()
    keyring: Path | None = None
    provides: tuple[str, ...] = ()
    bootable: bool = True

    @property
    def digest(self) -> str:
        """Identifies what is asked for, not where it comes from: a lock holds for every mirror."""
        return digest_of(sorted(self.names), self.suite, self.components, self.provides, self.bootable)

    @property
    def mirror_url(self) -> str:
        """The mirror in use, without a slash at its end."""
        return (self.mirror or host_mirror()).rstrip("/")


@dataclass(frozen=True)
class PackageSet:
    """Locked packages with their files in the store.

    ``unlocked`` lists what differs from the lock because no mirror had it; ``release`` is None where nothing had to be
    asked of the mirror.
    """

    lock: Lock
    unlocked: tuple[LockChange, ...]
    release: Release | None
    downloaded_bytes: int


def read_release(request: Request) -> Release:
    """The mirror's signed Release, checked and its age reported."""
    with ledger.default().tempdir("centralita-release-", parent=Path("/var/tmp")) as folder:
        release = verify_release(request.mirror_url, request.suite, folder, keyring(request.keyring))
    check_expiry(release, request.accept_expired)
    return release


def resolve(request: Request, release: Release) -> Lock:
    """What the mirror offers now for *request*, as a lock."""
    # apt cannot quote a path in a source's options: a folder whose name we know to be plain.
    with ledger.default().tempdir("centralita-apt-", parent=Path("/var/tmp")) as folder:
        apt = PrivateApt(
            root=folder,
            mirror=request.mirror_url,
            suite=request.suite,
            components=request.components,
            keyring=keyring(request.keyring),
            accept_expired=request.accept_expired,
            provides=request.provides,
        )
        apt.update()
        packages = apt.resolve(request.names, bootable=request.bootable)
    return Lock(request.suite, request.components, release.date, request.digest, tuple(packages))


def current_lock(path: Path, request: Request) -> Lock | None:
    """The lock at *path* if it is there and answers this request; None if it is missing or stale."""
    if not path.is_file():
        return None
    lock = load_lock(path)
    return lock if lock.request == request.digest else None


def write_lock(path: Path, lock: Lock, renew: str) -> None:
    """Write a lock file whole, or not at all. *renew* is the command that makes it anew."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(lock.dump(renew))
    part.rename(path)


def _fetch_all(request: Request, packages: Sequence[LockedPackage]) -> Fetched:
    mirrors = [request.mirror_url, *(s.rstrip("/") for s in request.snapshots)]
    return fetch_packages(packages, mirrors)


def _release_if_needed(request: Request, lock: Lock) -> Release | None:
    """The mirror's Release; None where it cannot be read and nothing has to be fetched from that mirror anyway."""
    try:
        return read_release(request)
    except MirrorUnreachableError as error:
        if all(deb_path(p).is_file() for p in lock.packages):
            get_reporter().warn(f"{error.message}; going on with the packages that are here, all as locked")
            return None
        raise


def obtain(request: Request, lock_path: Path, *, renew: str, locked: bool = False) -> PackageSet:
    """Packages for *request*: as locked; from a snapshot; else what the mirror has now, loudly.

    Without a lock, or with one made for another request, a new one is resolved and written, as cargo does.
    With ``locked`` each of these is an error instead.
    """
    reporter = get_reporter()
    lock = current_lock(lock_path, request)
    release: Release | None = None
    if lock is None:
        why = "was made for other packages" if lock_path.is_file() else "is not there"
        if locked:
            raise CentralitaError(f"{lock_path} {why}, and --locked forbids to renew it", hint=f"run `{renew}`")
        reporter.info(f"{lock_path.name} {why}: resolving packages")
        release = read_release(request)
        lock = resolve(request, release)
        write_lock(lock_path, lock, renew)
        reporter.info(f"wrote {lock_path} ({len(lock.packages)} packages)")
    if release is None:
        release = _release_if_needed(request, lock)
    fetched = _fetch_all(request, lock.packages)
    if not fetched.missing:
        return PackageSet(lock, (), release, fetched.downloaded_bytes)
    names = ", ".join(f"{p.name} {p.version}" for p in fetched.missing)
    if locked:
        raise CentralitaError(
            f"no mirror has these locked packages any more: {names}",
            hint=f"name a snapshot mirror in mirror.snapshots, or renew the lock: `{renew}`",
        )
    now = resolve(request, release or read_release(request))
    unlocked = tuple(diff_locks(lock.packages, now.packages))
    for change in unlocked:
        reporter.warn(f"not as locked: {change}")
    reporter.warn(
        f"{len(unlocked)} packages are not as {lock_path.name} says; the record is marked unlocked (renew: {renew})"
    )
    again = _fetch_all(request, now.packages)
    if again.missing:
        raise CentralitaError(
            f"{request.mirror_url} lists packages that it does not have: {', '.join(p.name for p in again.missing)}",
            hint="the mirror is being updated or is broken: try again later, or another with --mirror",
        )
    # The lock's epoch stays: a file's time says nothing about which packages there are.
    kept = Lock(now.suite, now.components, lock.epoch, now.request, now.packages)
    return PackageSet(kept, unlocked, release, fetched.downloaded_bytes + again.downloaded_bytes)
