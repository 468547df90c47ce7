"""Which files of two images differ: read out of the disks' root file systems, without a mount, a guest or root."""

from __future__ import annotations

import hashlib
import os
import stat
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

from centralita.depot.record import Frozen
from centralita.ground import ledger, paths
from centralita.ground.errors import CentralitaError
from centralita.ground.run import run

SECTOR_BYTES = 512


class TreeFile(Frozen):
    """A file as it is compared. ``content`` is a SHA-256, or a link's target; times do not count."""

    kind: str
    mode: int
    size_bytes: int
    content: str


class FileChange(Frozen):
    """A path that differs; sizes in bytes, None where it is not there. ``what`` is new, gone, content, mode or kind."""

    path: str
    what: str
    old_bytes: int | None
    new_bytes: int | None


def partition_offset(raw: Path, number: int) -> int:
    """Where a partition begins on a raw disk, bytes (UEFI Specification, 5.3). Raises CentralitaError."""
    with raw.open("rb") as stream:
        stream.seek(SECTOR_BYTES)
        header = stream.read(SECTOR_BYTES)
        if header[:8] != b"EFI PART":
            raise CentralitaError("the disk has no GUID partition table")
        first_lba, count, size = struct.unpack_from("<QII", header, 72)
        if not 1 <= number <= count:
            raise CentralitaError(f"the disk has no partition {number}")
        stream.seek(first_lba * SECTOR_BYTES + (number - 1) * size)
        start: int = struct.unpack_from("<Q", stream.read(size), 32)[0]
    if not start:
        raise CentralitaError(f"the disk has no partition {number}")
    return start * SECTOR_BYTES


def read_tree(raw: Path, partition: int) -> dict[str, TreeFile]:
    """The files of an ext4 file system in a partition of a raw disk, by their paths. Raises CentralitaError."""
    with ledger.default().tempdir("tree-", parent=paths.cache_dir()) as folder:
        # The part of e2fsprogs that a Debian host always has; `?offset=` is its own (ext2fs_open(3)).
        done = run(["debugfs", "-R", f"rdump / {folder}", f"{raw}?offset={partition_offset(raw, partition)}"])
        found = dict(_walk(folder))
    if not found:
        raise CentralitaError(f"cannot read the files of {raw}: {done.stderr.strip()}")
    return found


def _walk(folder: Path) -> Iterator[tuple[str, TreeFile]]:
    for root, folders, files in os.walk(folder):
        for name in sorted([*folders, *files]):
            path = Path(root) / name
            shown = "/" + path.relative_to(folder).as_posix()
            if shown == "/lost+found":
                continue
            status = path.lstat()
            mode = stat.S_IMODE(status.st_mode)
            if stat.S_ISLNK(status.st_mode):
                yield shown, TreeFile(kind="link", mode=0, size_bytes=0, content=str(path.readlink()))
            elif stat.S_ISDIR(status.st_mode):
                yield shown, TreeFile(kind="folder", mode=mode, size_bytes=0, content="")
            else:
                with path.open("rb") as stream:
                    digest = hashlib.file_digest(stream, "sha256").hexdigest()
                yield shown, TreeFile(kind="file", mode=mode, size_bytes=status.st_size, content=digest)


def compare(old: Mapping[str, TreeFile], new: Mapping[str, TreeFile]) -> tuple[FileChange, ...]:
    """What differs between two trees, by path."""
    found = []
    for path in sorted(old.keys() | new.keys()):
        before, after = old.get(path), new.get(path)
        if before == after:
            continue
        if before is None or after is None:
            what = "new" if before is None else "gone"
        elif before.kind != after.kind:
            what = "kind"
        else:
            what = "content" if before.content != after.content else "mode"
        sizes = [None if file is None else file.size_bytes for file in (before, after)]
        found.append(FileChange(path=path, what=what, old_bytes=sizes[0], new_bytes=sizes[1]))
    return tuple(found)
