"""Writes files into disks that no machine runs from, with libguestfs: one launch for many disks.

A launch takes seconds (in emulation up to twenty), a disk some tenths of one. So all disks of a batch are attached to
one libguestfs appliance, and each gets its files as one tar stream, made in memory: owners by number, nothing secret
on the host's disk, in a command line or in a trace. Disks are found by the order in which they were attached and never
by UUID or label, which all clones of an image share.
"""

from __future__ import annotations

import io
import os
import tarfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from centralita.clone.files import GuestFile
from centralita.ground import accel, cache
from centralita.ground.errors import CentralitaError
from centralita.ground.paths import cache_dir

#: The root file system's partition in the golden image's GPT (BIOS boot, ESP, root).
ROOT_PARTITION = 3

# The appliance holds little: a kernel, tar, and a SCSI disk's structures for each drive.
_MEMORY_MIB = 384
_MEMORY_PER_DISK_MIB = 2
_MAX_BATCH = 120
_MAX_TABLE = 1 << 20


@dataclass(frozen=True)
class Injected:
    """How long an injection took: ``launch_s`` of libguestfs in all, ``disk_s`` of each disk, in the disks' order."""

    launch_s: float
    disk_s: tuple[float, ...]


def inject(items: Sequence[tuple[Path, Sequence[GuestFile]]], *, batch: int = _MAX_BATCH) -> Injected:
    """Write files into the root file systems of qcow2 disks, at most ``batch`` of them in one launch of libguestfs.

    What is at a file's path is replaced, a symbolic link itself and not what it points to. Raises CentralitaError with
    the disk's path where one cannot be mounted or written; what was written into the others stays.
    """
    launch_s = 0.0
    disk_s: list[float] = []
    rest = list(items)
    while rest:
        with _guestfs(len(rest), batch) as guest:
            size = min(len(rest), batch, int(guest.max_disks()))
            part, rest = rest[:size], rest[size:]
            for disk, _files in part:
                guest.add_drive_opts(str(disk), format="qcow2", readonly=False, cachemode="unsafe")
            started = time.monotonic()
            _launch(guest)
            launch_s += time.monotonic() - started
            devices = guest.list_devices()
            if len(devices) != len(part):
                raise CentralitaError(f"libguestfs shows {len(devices)} disks of {len(part)}")
            for (disk, files), device in zip(part, devices, strict=True):
                started = time.monotonic()
                _one_disk(guest, f"{device}{ROOT_PARTITION}", disk, files)
                disk_s.append(time.monotonic() - started)
            _checked(guest.shutdown, "the disks could not be closed")
        for disk, _files in part:
            _sync(disk)
    return Injected(launch_s, tuple(disk_s))


def _one_disk(guest: Any, partition: str, disk: Path, files: Sequence[GuestFile]) -> None:  # noqa: ANN401 - no types
    def fail(what: str) -> str:
        return f"{disk}: {what}"

    _checked(lambda: guest.mount_options("noatime", partition, "/"), fail("its root file system cannot be mounted"))
    try:
        try:
            # pread is answered by the daemon itself; read_file would start a program for each (0.14 s in emulation).
            users = numbers_of(guest.pread("/etc/passwd", _MAX_TABLE, 0))
            groups = numbers_of(guest.pread("/etc/group", _MAX_TABLE, 0))
        except RuntimeError as error:
            raise CentralitaError(fail(f"has no /etc/passwd in partition {ROOT_PARTITION}: {error}")) from None
        stream = archive(files, users, groups, time.time())
        _checked(lambda: _tar_in(guest, stream), fail("its files cannot be written"))
    finally:
        _checked(guest.umount_all, fail("its root file system cannot be unmounted"))


def _tar_in(guest: Any, stream: bytes) -> None:  # noqa: ANN401
    """Hand a tar over through a file in memory: secrets in it never reach the host's disk."""
    handle = os.memfd_create("centralita-inject", os.MFD_CLOEXEC)
    try:
        with os.fdopen(os.dup(handle), "wb") as file:
            file.write(stream)
        guest.tar_in(f"/proc/self/fd/{handle}", "/")
    finally:
        os.close(handle)


def archive(files: Sequence[GuestFile], users: dict[str, int], groups: dict[str, int], mtime: float) -> bytes:
    """Return the files as a tar with numeric owners. Raises CentralitaError for an owner that the guest has not."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for file in files:
            entry = tarfile.TarInfo(file.path.lstrip("/"))
            entry.mtime = int(mtime)
            entry.mode = file.mode
            entry.uid = _number(users, file.owner, "user", file.path)
            entry.gid = _number(groups, file.group, "group", file.path)
            if file.symlink is not None:
                entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, file.symlink, 0o777
                tar.addfile(entry)
            elif file.directory:
                entry.type = tarfile.DIRTYPE
                tar.addfile(entry)
            else:
                entry.size = len(file.content)
                tar.addfile(entry, io.BytesIO(file.content))
    return buffer.getvalue()


def _number(numbers: dict[str, int], name: str, kind: str, path: str) -> int:
    if name not in numbers:
        raise CentralitaError(f"{path}: the guest has no {kind} {name!r}", hint="build the appliance with that package")
    return numbers[name]


def numbers_of(table: bytes) -> dict[str, int]:
    """Return the names of a passwd(5) or group(5) file with their numbers."""
    numbers = {}
    for line in table.decode("utf-8", "replace").splitlines():
        fields = line.split(":")
        if len(fields) > 2 and fields[2].isdigit():
            numbers[fields[0]] = int(fields[2])
    return numbers


@contextmanager
def _guestfs(disks: int, batch: int) -> Iterator[Any]:
    """Make a libguestfs handle that is not launched yet; it is closed, and its QEMU gone, on the way out."""
    try:
        import guestfs
    except ImportError:
        hint = "apt-get install python3-guestfs, and a virtual environment made with --system-site-packages"
        raise CentralitaError("Python's guestfs module is not there", hint=hint) from None
    with accel.guestfs_surroundings():
        guest = guestfs.GuestFS(python_return_dict=True)
        try:
            guest.set_trace(False)  # a trace prints what is written, secrets included
            guest.set_verbose(False)
            guest.set_autosync(True)
            guest.set_network(False)
            guest.set_smp(1)
            guest.set_memsize(_MEMORY_MIB + _MEMORY_PER_DISK_MIB * min(disks, batch))
            yield guest
        finally:
            guest.close()


def _launch(guest: Any) -> None:  # noqa: ANN401
    # supermin builds the appliance into the cache at the first launch; two at once would do it twice.
    if any(cache_dir().glob("guestfs/.guestfs-*/appliance.d/initrd")):
        _checked(guest.launch, "libguestfs does not start")
        return
    with cache.lock("libguestfs-appliance"):
        _checked(guest.launch, "libguestfs does not start")


def _checked(call: Any, what: str) -> None:  # noqa: ANN401
    try:
        call()
    except RuntimeError as error:  # what the binding raises for every error of libguestfs
        hint = "`invoke doctor` shows what libguestfs needs; `libguestfs-test-tool` shows where it stops"
        raise CentralitaError(f"{what}: {error}", hint=hint) from None


def _sync(disk: Path) -> None:
    """Bring a disk's data to the medium: QEMU ran with cache=unsafe."""
    handle = os.open(disk, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
