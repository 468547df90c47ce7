"""What the build host has and lacks. Each check tries the thing itself where that is possible."""

from __future__ import annotations

import importlib.util
import os
import platform
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from centralita.ground import accel, ledger, paths, undo
from centralita.ground.errors import CentralitaError
from centralita.ground.run import run

#: An OS tree, its tarball, the raw disk and its forms, for one appliance with room for the tests' overlays.
NEEDED_DISK_MIB = 8 * 1024
#: A test machine of 1 GiB, libguestfs's appliance, and the build itself.
NEEDED_MEMORY_MIB = 2 * 1024


@dataclass(frozen=True)
class Check:
    """One thing looked at. `fix` says what to do where it is not `ok`; without a `required` one, work goes on."""

    name: str
    ok: bool
    detail: str
    fix: str = ""
    required: bool = True


def examine(*, refresh: bool = False) -> list[Check]:
    """All checks. `refresh` boots a kernel again instead of remembering whether KVM works."""
    return [
        _architecture(),
        _root(),
        _packages(),
        _guestfs(),
        _kernel(),
        _kvm(refresh),
        _network(),
        _loops(),
        *_disks(),
        _memory(),
        _orphans(),
    ]


def _tried(name: str, fix: str, attempt: Callable[[], str], *, required: bool = True) -> Check:
    """A check that is made by doing it."""
    try:
        return Check(name, True, attempt(), required=required)
    except (CentralitaError, OSError) as error:
        # The last line of a failed command is what its program said.
        return Check(name, False, str(error).strip().splitlines()[-1].strip(), fix, required)


def _architecture() -> Check:
    machine = platform.machine()
    python = ".".join(map(str, sys.version_info[:3]))
    return Check("machine", machine == "x86_64", f"{machine}, Python {python}", "images are built for amd64 on amd64")


def _root() -> Check:
    ok = os.geteuid() == 0
    return Check("root", ok, "yes" if ok else "no", "run as root: trees are made with chroot and mounts")


def _packages() -> Check:
    script = paths.repo_root() / "bootstrap"
    try:
        missing = run([script, "--missing"]).stdout.split()
    except CentralitaError as error:
        return Check("host packages", False, str(error).splitlines()[0], "./bootstrap installs what is missing")
    if missing:
        return Check("host packages", False, "missing: " + " ".join(missing), "./bootstrap installs what is missing")
    return Check("host packages", True, "all of bindep.txt is installed")


def _guestfs() -> Check:
    ok = importlib.util.find_spec("guestfs") is not None
    fix = "install python3-guestfs, and run ./bootstrap: the environment must see the system's packages"
    return Check("Python's guestfs", ok, "can be imported" if ok else "cannot be imported", fix)


def _kernel() -> Check:
    kernel = accel.newest_kernel()
    if kernel is None:
        return Check("kernel for libguestfs", False, "no readable /boot/vmlinuz-*", "install linux-image-cloud-amd64")
    modules = Path("/lib/modules") / kernel.name.removeprefix("vmlinuz-")
    if not modules.is_dir():
        return Check("kernel for libguestfs", False, f"{kernel.name} has no {modules}", "reinstall its package")
    return Check("kernel for libguestfs", True, kernel.name)


def _kvm(refresh: bool) -> Check:
    try:
        found = accel.probe(refresh=refresh)
    except CentralitaError as error:
        return Check("KVM", False, str(error), error.hint or "")
    if found.name == "kvm":
        return Check("KVM", True, found.reason, required=False)
    fix = "none needed: machines are emulated, about ten times slower; enable (nested) virtualisation for speed"
    return Check("KVM", False, f"{found.reason}; emulation (tcg) is used", fix, required=False)


def _network() -> Check:
    script = (
        "ip link add name br0 type bridge && ip tuntap add dev tap0 mode tap && "
        "ip link set tap0 master br0 && ip link add name v0 type veth peer name v1"
    )

    def attempt() -> str:
        run(["unshare", "--net", "sh", "-c", script])
        return "a namespace with bridge, tap and veth can be made"

    return _tried("network namespaces", "run as root, with the modules bridge, tun and veth", attempt)


def _loops() -> Check:
    def attempt() -> str:
        book = ledger.default()
        with book.tempdir("centralita-doctor-") as folder:
            backing = folder / "loop.img"
            with backing.open("wb") as stream:
                stream.truncate(1024 * 1024)
            with book.loop(backing):
                device = run(["losetup", "--find", "--show", backing]).stdout.strip()
                undo.detach_loops(backing)
        return f"{device} could be attached and detached"

    fix = "none needed: images are assembled without loop devices"
    return _tried("loop devices", fix, attempt, required=False)


def _disks() -> Iterator[Check]:
    seen: set[int] = set()
    temporary = Path(os.environ.get("TMPDIR") or "/var/tmp")
    for name, folder in (("cache", paths.cache_dir()), ("output", paths.output_dir()), ("temporary", temporary)):
        if not folder.is_dir():
            yield Check(f"disk ({name})", False, f"{folder} is not there", "make it, or set TMPDIR to another")
            continue
        status = os.statvfs(folder)
        if name == "temporary" and status.f_flag & (os.ST_NODEV | os.ST_NOEXEC):
            yield Check("mount options", False, f"{folder} is nodev or noexec", "set TMPDIR: a tree has both in it")
        device = folder.stat().st_dev
        if device in seen:
            continue
        seen.add(device)
        free_mib = status.f_bavail * status.f_frsize // 2**20
        fix = f"free {NEEDED_DISK_MIB} MiB there, or set XDG_CACHE_HOME, CENTRALITA_OUTPUT or TMPDIR"
        yield Check(f"disk ({name})", free_mib >= NEEDED_DISK_MIB, f"{free_mib} MiB free in {folder}", fix)


def _memory() -> Check:
    fields = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    available_mib = int(fields["MemAvailable"].split()[0]) // 1024
    fix = f"{NEEDED_MEMORY_MIB} MiB are needed to build and to boot one machine"
    return Check("memory", available_mib >= NEEDED_MEMORY_MIB, f"{available_mib} MiB available", fix)


def _orphans() -> Check:
    count = len(ledger.default().orphans())
    detail = f"{count} things of killed runs" if count else "none"
    return Check("left behind", not count, detail, "invoke clean --orphans", required=False)
