"""Debian mirrors: the build host's own, and what their signed Release file says.

Sources: sources.list(5), the deb822 style too; Debian's repository format
(https://wiki.debian.org/DebianRepository/Format).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

from centralita.ground.errors import CentralitaError
from centralita.ground.report import get_reporter
from centralita.ground.run import run

APT_ROOT = Path("/etc/apt")
DEBIAN_SUITES = re.compile(
    r"^(stable|oldstable|oldoldstable|testing|unstable|sid|bullseye|bookworm|trixie|forky|duke)$"
)
KEYRINGS = (
    Path("/usr/share/keyrings/debian-archive-keyring.gpg"),
    Path("/usr/share/keyrings/debian-archive-keyring.pgp"),
)


class MirrorUnreachableError(CentralitaError):
    """A mirror's Release file could not be fetched."""


@dataclass(frozen=True)
class Release:
    """What a mirror's signed Release file said when it was read.

    ``age_days`` is counted from ``date`` to the build host's clock.
    """

    mirror: str
    suite: str
    codename: str
    date: datetime
    valid_until: datetime | None
    age_days: float
    expired: bool


def _deb822_entries(text: str) -> Iterator[tuple[str, str]]:
    for stanza in re.split(r"\n\s*\n", text):
        fields: dict[str, str] = {}
        name = ""
        for line in stanza.splitlines():
            if line.startswith("#"):
                continue
            if line[:1].isspace():
                fields[name] = fields.get(name, "") + " " + line.strip()
            elif ":" in line:
                name, value = line.split(":", 1)
                name = name.strip().lower()
                fields[name] = value.strip()
        if fields.get("enabled", "yes").lower() == "no" or "deb" not in fields.get("types", "").split():
            continue
        for uri in fields.get("uris", "").split():
            for suite in fields.get("suites", "").split():
                yield uri, suite


def _one_line_entries(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        match = re.match(r"^\s*deb\s+(?:\[[^]]*\]\s+)?(\S+)\s+(\S+)", line)
        if match:
            yield match.group(1), match.group(2)


def host_mirror(apt_root: Path = APT_ROOT) -> str:
    """The first mirror of a plain Debian suite in the build host's own apt sources.

    Raises CentralitaError where the host names none: which mirror to trust is not guessed.
    """
    entries: list[tuple[str, str]] = []
    for path in [apt_root / "sources.list", *sorted((apt_root / "sources.list.d").glob("*"))]:
        if not path.is_file():
            continue
        text = path.read_text(errors="replace")
        if path.suffix == ".sources":
            entries += _deb822_entries(text)
        elif path.suffix == ".list":
            entries += _one_line_entries(text)
    for uri, suite in entries:
        if DEBIAN_SUITES.match(suite):
            return uri.rstrip("/")
    raise CentralitaError(
        f"{apt_root} names no mirror of a Debian suite",
        hint="name one: --mirror URL, or mirror: {url: …} in the appliance",
    )


def keyring(configured: Path | None) -> Path:
    """The OpenPGP keyring that a mirror's signature is checked against."""
    candidates = (configured,) if configured else KEYRINGS
    for path in candidates:
        if path.is_file():
            return path
    raise CentralitaError(
        f"no keyring to check the mirror's signature: {', '.join(map(str, candidates))}",
        hint="apt-get install debian-archive-keyring, or name one with `mirror: {keyring: PATH}`",
    )


def apt_fetch(items: Sequence[tuple[str, Path, str | None]], *, check: bool = True, log: Path | None = None) -> bool:
    """Download ``(uri, path, sha256 or None)`` items by apt's own methods (proxies, TLS and credentials included).

    Returns whether all came; with ``check`` a failure raises instead. apt verifies each given digest.
    """
    argv = ["/usr/lib/apt/apt-helper", "-o", "APT::Sandbox::User=root", "-o", "Acquire::Retries=3", "download-file"]
    for uri, path, sha256 in items:
        # apt's file: method names the original and copies nothing.
        argv += [re.sub(r"^file:/+", "copy:/", uri), str(path), f"SHA256:{sha256}" if sha256 else ""]
    return run(argv, check=check, log=log).returncode == 0


def _field(text: str, name: str) -> str | None:
    match = re.search(rf"^{name}:\s*(.+)$", text, re.MULTILINE)
    return match.group(1).strip() if match else None


def read_release(text: str, mirror: str, suite: str, now: datetime | None = None) -> Release:
    """Parse the text of a Release file."""
    now = now or datetime.now(UTC)
    date_text = _field(text, "Date")
    if date_text is None:
        raise CentralitaError(f"{mirror}: the Release file of {suite} has no Date")
    date = parsedate_to_datetime(date_text)
    until_text = _field(text, "Valid-Until")
    until = parsedate_to_datetime(until_text) if until_text else None
    return Release(
        mirror=mirror,
        suite=suite,
        codename=_field(text, "Codename") or suite,
        date=date,
        valid_until=until,
        age_days=round((now - date).total_seconds() / 86400, 2),
        expired=until is not None and until < now,
    )


def verify_release(mirror: str, suite: str, folder: Path, keys: Path, now: datetime | None = None) -> Release:
    """Fetch ``dists/SUITE/InRelease`` into *folder*, check its signature and return what it says.

    The mirror's clock is not trusted for anything but the date that it signed.
    """
    target = folder / f"InRelease.{suite}"
    plain = folder / f"Release.{suite}"
    uri = f"{mirror}/dists/{suite}/InRelease"
    if not apt_fetch([(uri, target, None)], check=False):
        raise MirrorUnreachableError(
            f"cannot fetch {uri}",
            hint="is the mirror reachable, and does it have that suite? Another one: --mirror URL",
        )
    done = run(["gpgv", "--keyring", keys, "--output", plain, target], check=False)
    if done.returncode != 0:
        raise CentralitaError(
            f"{uri}: its signature is not by a key of {keys}",
            hint="a newer debian-archive-keyring, or another mirror; an unsigned mirror is never used",
        )
    return read_release(plain.read_text(), mirror, suite, now)


def check_expiry(release: Release, accept_expired: bool) -> None:
    """Print the Release date and its age; refuse an expired one unless the spec accepts it."""
    dated = f"{release.mirror} {release.suite}: Release of {release.date:%Y-%m-%d %H:%M} UTC"
    dated += f", {release.age_days:.1f} days old"
    if not release.expired:
        get_reporter().info(dated)
        return
    assert release.valid_until is not None
    dated += f", expired on {release.valid_until:%Y-%m-%d}"
    if not accept_expired:
        raise CentralitaError(
            dated,
            hint="if this mirror is a snapshot that you chose, say so in the appliance: mirror: {accept_expired: true}",
        )
    get_reporter().warn(f"{dated}; accepted by mirror.accept_expired")
