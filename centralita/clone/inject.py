"""Writes files into disks that no machine runs from, with libguestfs: one launch for many disks.

A launch takes seconds (in emulation up to twenty), and so does every hundred of programs that the appliance starts. So
all disks of a batch are plugged into one libguestfs appliance, and the disks of a round are mounted by one mount(8),
written by one tar(1) and unmounted by one umount(8). The tar is made in memory: owners by number, nothing secret on
the host's disk, in a command line or in a trace.

Disks are known by the serial numbers that we give them, never by the order in which the kernel found them nor by UUID
or label, which all clones of an image share; and each one's name is read back from it.
"""

from __future__ import annotations

import os
import re
import tarfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from centralita.clone.archive import add_files, numbers_of
from centralita.clone.drives import Appliance
from centralita.clone.files import GuestFile
from centralita.ground import accel, cache, ledger
from centralita.ground.errors import CentralitaError
from centralita.ground.paths import cache_dir
from centralita.ground.signals import shield

#: The root file system's partition in the golden image's GPT (BIOS boot, ESP, root).
ROOT_PARTITION = 3
HOSTNAME = "/etc/hostname"

# The appliance holds little: a kernel, tar, and the structures of a SCSI disk and of a mounted ext4 for each.
_MEMORY_MIB = 384
_MEMORY_PER_DISK_MIB = 2
# What a disk takes on the host: the above, and QEMU's tables of overlay and golden image.
_HOST_PER_DISK_MIB = 4
# What stays free on the host.
_RESERVE_MIB = 256
_MAX_TABLE = 1 << 20
# Bounds of a round: what the appliance holds in memory until it is written.
_ROUND_DISKS = 32
_ROUND_BYTES = 64 << 20

Item = tuple[Path, Sequence[GuestFile]]


@dataclass(frozen=True)
class Injected:
    """How long an injection took: so many ``launches`` of libguestfs and their time, and the time of all the rest."""

    launches: int
    launch_s: float
    write_s: float

    def __add__(self, other: Injected) -> Injected:
        """Return both together."""
        launches, launch_s = self.launches + other.launches, self.launch_s + other.launch_s
        return Injected(launches, launch_s, self.write_s + other.write_s)


NOTHING = Injected(0, 0.0, 0.0)


def capacity() -> int:
    """Return how many disks one launch of libguestfs takes here: by its own limit and by the memory that is free."""
    with _guestfs(0) as (guest, _processes):
        return disks_per_launch(int(guest.max_disks()), available_mib())


def disks_per_launch(max_disks: int, memory_mib: int) -> int:
    """Return the smaller of libguestfs's limit and of what fits into so much free memory; at least 1."""
    return max(1, min(max_disks, (memory_mib - _RESERVE_MIB - _MEMORY_MIB) // _HOST_PER_DISK_MIB))


def available_mib(meminfo: Path = Path("/proc/meminfo")) -> int:
    """Return how much memory the host can give without swapping (MemAvailable, proc(5)), in MiB."""
    found = re.search(r"^MemAvailable:\s+(\d+) kB", meminfo.read_text(encoding="ascii"), re.MULTILINE)
    return int(found.group(1)) // 1024 if found else 0


def inject(items: Sequence[Item], *, batch: int | None = None, form: str = "qcow2") -> Injected:
    """Write files into the root file systems of disks of one image, at most ``batch`` of them in one launch.

    ``form`` is the disks' format, qcow2 or raw. What is at a file's path is replaced, a symbolic link itself and not
    what it points to. Raises CentralitaError with the disk's path where one cannot be mounted or written, or where it
    does not have its name afterwards; what was written into the others stays.
    """
    size = max(1, batch if batch is not None else capacity())
    total = NOTHING
    for start in range(0, len(items), size):
        part = items[start : start + size]
        with _guestfs(len(part)) as (guest, processes):
            total += _interruptible(lambda: _launch_for(guest, part, form), processes)  # noqa: B023 - run at once
    return total


def _launch_for(guest: Any, items: Sequence[Item], form: str) -> Injected:  # noqa: ANN401 - no types
    """Write into the disks of one launch."""
    appliance = Appliance(guest)
    started = time.monotonic()
    _launch(guest)
    launched = time.monotonic()
    devices = appliance.plug([disk for disk, _files in items], form, ROOT_PARTITION)
    tables: tuple[dict[str, int], dict[str, int]] | None = None
    for part in rounds(items):
        chosen = {f"{index:03}": items[index] for index in part}
        partitions = {f"{index:03}": f"{devices[index]}{ROOT_PARTITION}" for index in part}
        names = {name: disk for name, (disk, _files) in chosen.items()}
        appliance.mount(partitions, names, "noatime")
        if tables is None:
            tables = _tables(guest, next(iter(chosen)), next(iter(names.values())))
        _write(guest, {name: files for name, (_disk, files) in chosen.items()}, *tables)
        appliance.unmount(partitions)
        # Mounted anew, so that it comes from the disk and not from what the appliance remembers.
        appliance.mount(partitions, names, "ro,noatime")
        found = appliance.first_lines(partitions, HOSTNAME)
        appliance.unmount(partitions)
        for name, (disk, files) in chosen.items():
            wanted = _first_line(files, HOSTNAME)
            if wanted is not None and found.get(name) != wanted:
                raise CentralitaError(f"{disk} should be {wanted}, and says that it is {found.get(name)!r}")
    _checked(guest.shutdown, "the disks could not be closed")
    return Injected(1, launched - started, time.monotonic() - launched)


def rounds(items: Sequence[Item]) -> Iterator[range]:
    """Divide the disks of a launch: so many at once as the appliance can hold the files of."""
    start, size = 0, 0
    for index, (_disk, files) in enumerate(items):
        more = sum(len(file.content) for file in files)
        if index > start and (index - start >= _ROUND_DISKS or size + more > _ROUND_BYTES):
            yield range(start, index)
            start, size = index, 0
        size += more
    if start < len(items):
        yield range(start, len(items))


def _first_line(files: Sequence[GuestFile], path: str) -> str | None:
    content = next((file.content for file in files if file.path == path and file.symlink is None), None)
    return None if content is None else content.decode("utf-8", "replace").partition("\n")[0]


def _tables(guest: Any, name: str, disk: Path) -> tuple[dict[str, int], dict[str, int]]:  # noqa: ANN401
    """Return the users and groups of the image, by the first of its disks."""
    try:
        # pread is answered by the daemon itself; read_file would start a program.
        users = numbers_of(guest.pread(f"/{name}/etc/passwd", _MAX_TABLE, 0))
        return users, numbers_of(guest.pread(f"/{name}/etc/group", _MAX_TABLE, 0))
    except RuntimeError as error:
        raise CentralitaError(f"{disk}: has no /etc/passwd in partition {ROOT_PARTITION}: {error}") from None


def _write(
    guest: Any,  # noqa: ANN401
    files: Mapping[str, Sequence[GuestFile]],
    users: dict[str, int],
    groups: dict[str, int],
) -> None:
    """Unpack one tar over the folders; it goes through a file in memory, so secrets never reach the host's disk."""
    handle = os.memfd_create("centralita-inject", os.MFD_CLOEXEC)
    try:
        with ExitStack() as stack:
            stream = stack.enter_context(os.fdopen(os.dup(handle), "wb"))
            tar = stack.enter_context(tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT))
            for name, wanted in files.items():
                add_files(tar, wanted, users, groups, time.time(), below=name)
        _checked(lambda: guest.tar_in(f"/proc/self/fd/{handle}", "/"), "the files cannot be written")
    finally:
        os.close(handle)


@contextmanager
def _guestfs(disks: int) -> Iterator[tuple[Any, ledger.Entry]]:
    """Make a libguestfs handle that is not launched yet; it is closed, and its QEMU gone, on the way out."""
    try:
        import guestfs
    except ImportError:
        hint = "apt-get install python3-guestfs, and a virtual environment made with --system-site-packages"
        raise CentralitaError("Python's guestfs module is not there", hint=hint) from None
    with accel.guestfs_surroundings() as processes:
        guest = guestfs.GuestFS(python_return_dict=True)
        try:
            guest.set_trace(False)  # a trace prints what is written, secrets included
            guest.set_verbose(False)
            # Every file system is unmounted by then; libguestfs would wait for udev and synchronise disk by disk.
            guest.set_autosync(False)
            guest.set_network(False)
            guest.set_smp(1)
            guest.set_memsize(_MEMORY_MIB + _MEMORY_PER_DISK_MIB * disks)
            yield guest, processes
        finally:
            guest.close()


def _interruptible(work: Callable[[], Injected], processes: ledger.Entry) -> Injected:
    """Do the work in a thread, so that a signal is answered at once: a call of libguestfs would let it wait.

    On the way out libguestfs's processes are ended first, which ends the call.
    """
    outcome: list[Injected | BaseException] = []

    def body() -> None:
        try:
            outcome.append(work())
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=body, name="libguestfs", daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(1)
    except BaseException:
        with shield():
            processes.release()
            thread.join()
        raise
    (found,) = outcome
    if isinstance(found, BaseException):
        raise found
    return found


def _launch(guest: Any) -> None:  # noqa: ANN401
    # supermin builds the appliance into the cache at the first launch; two at once would do it twice.
    if any(cache_dir().glob("guestfs/.guestfs-*/appliance.d/initrd")):
        _checked(guest.launch, "libguestfs does not start")
        return
    with cache.lock("libguestfs-appliance"):
        _checked(guest.launch, "libguestfs does not start")


def _checked(call: Callable[[], object], what: str) -> None:
    try:
        call()
    except RuntimeError as error:  # what the binding raises for every error of libguestfs
        hint = "`invoke doctor` shows what libguestfs needs; `libguestfs-test-tool` shows where it stops"
        raise CentralitaError(f"{what}: {error}", hint=hint) from None
