"""A clone's system disk: an overlay of the golden image or a copy of it; and the golden image is proved before."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from centralita.ground import cache, ledger, paths
from centralita.ground.errors import CentralitaError
from centralita.ground.run import run
from centralita.image.disk import raw_digest
from centralita.image.record import GoldenRecord
from centralita.packages.fetch import sha256_of

SYSTEM_DISK = "system.qcow2"
RAW_DISK = "system.raw"
_SYNC_THREADS = 8
_BLOCK_BYTES = 4 << 20


class Golden(Protocol):
    """What a clone is made of: a golden image's qcow2 and its record."""

    @property
    def qcow2_path(self) -> Path:
        """The golden disk."""

    @property
    def record(self) -> GoldenRecord:
        """Its record."""


def proved(golden: Golden) -> Path:
    """Return the path of the golden qcow2, whose bytes are those that its record tells (SHA-256).

    Raises CentralitaError where they are not: an overlay of another image would have another system below it.
    """
    path = golden.qcow2_path
    expected = next((entry.sha256 for entry in golden.record.formats if entry.format == "qcow2"), None)
    name = f"{golden.record.appliance} {golden.record.full_version}"
    hint = f"remove its folder and build it again (invoke build {golden.record.appliance}), or pull it again"
    if not path.is_file():
        raise CentralitaError(f"{name}: {path} is not there", hint=hint)
    found = sha256_of(path)
    if found != expected:
        raise CentralitaError(
            f"{path} is not the image of {name}: its SHA-256 is {found}, its record says {expected}", hint=hint
        )
    return path.resolve()


def make_overlays(backing: Path, targets: Sequence[Path]) -> None:
    """Make overlays (0600) of a qcow2. Only the first is made by qemu-img: all are the same until they are used."""
    if not targets:
        return
    first, *others = targets
    run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", backing, first])
    first.chmod(0o600)  # the tenant's secrets will be in it
    for other in others:
        other.touch(mode=0o600)
        shutil.copyfile(first, other)


@contextmanager
def golden_raw(golden: Golden) -> Iterator[Path]:
    """Give the golden disk as a raw file, proved by the golden digest: from the cache, else unpacked from the qcow2.

    Raises CentralitaError where it has another digest.
    """
    record = golden.record
    disk = cache.Store().get("disk", record.disk_key)
    if disk is not None and raw_digest(disk / "disk.raw") == record.golden_digest:
        yield disk / "disk.raw"
        return
    with ledger.default().tempdir("golden-", parent=paths.cache_dir()) as folder:
        raw = folder / "disk.raw"
        run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", golden.qcow2_path, raw])
        found = raw_digest(raw)
        if found != record.golden_digest:
            raise CentralitaError(
                f"{golden.qcow2_path} holds a disk of the digest {found}, its record says {record.golden_digest}",
                hint="build it again, or pull it again",
            )
        yield raw


def make_copies(raw: Path, targets: Sequence[Path]) -> None:
    """Copy a raw disk (0600): sharing its blocks where the file system can (reflink), else with its holes."""
    for target in targets:
        target.touch(mode=0o600)
        run(["cp", "--reflink=auto", "--sparse=auto", "--no-preserve=mode", "--", raw, target])


def holds(disk: Path, words: bytes) -> bool:
    """Tell whether these bytes are somewhere in a disk's file, other than compressed. Its holes are not read."""
    size = disk.stat().st_size
    position = 0
    with disk.open("rb") as stream:
        while position < size:
            try:
                position = os.lseek(stream.fileno(), position, os.SEEK_DATA)
            except OSError:  # no data behind this position
                return False
            hole = os.lseek(stream.fileno(), position, os.SEEK_HOLE)
            stream.seek(position)
            tail = b""
            while position < hole and (block := stream.read(min(_BLOCK_BYTES, hole - position))):
                if words in tail + block:
                    return True
                tail = block[-len(words) :]
                position += len(block)
            position = hole
    return False


def bring_to_medium(files: Sequence[Path]) -> None:
    """Return when the files' data are on the medium (fsync(2)), so that no power cut takes a clone that was shown."""
    with ThreadPoolExecutor(_SYNC_THREADS) as pool:
        list(pool.map(_sync, files))


def _sync(file: Path) -> None:
    handle = os.open(file, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
