"""What is converted: a golden image's disk and tree, or a tenant's clone of one."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from centralita.ground import cache, ledger, paths
from centralita.ground.errors import CentralitaError
from centralita.ground.run import run
from centralita.image.disk import raw_digest
from centralita.image.record import GoldenRecord

# Identifiers within formats are names, not secrets. They follow from the disk: made anew, a file is the same.
NAMESPACE = uuid.UUID("3d4e2f5c-7a90-5c55-9d0b-52a1c7a0be1d")


class Golden(Protocol):
    """A golden image's folder and record."""

    @property
    def qcow2_path(self) -> Path:
        """The golden disk."""

    @property
    def record(self) -> GoldenRecord:
        """Its record."""


@dataclass(frozen=True)
class Subject:
    """A disk and a tree that go by one name. ``digest`` is the SHA-256 of the raw disk, ``epoch`` in seconds."""

    name: str
    title: str
    version: str
    digest: str
    raw: Path
    size_bytes: int
    tree: Path
    tree_key: str
    build: str
    memory_mib: int
    vcpus: int
    cmdline: tuple[str, ...]
    epoch: int
    mac: str | None = None
    # What the image is, where the name is a tenant's.
    appliance: str | None = None

    def uuid(self, what: str) -> uuid.UUID:
        """Return the identifier of one thing in a format; the same for the same disk."""
        return uuid.uuid5(NAMESPACE, f"{self.digest}/{what}")


def subject_of(record: GoldenRecord, raw: Path, tree: Path) -> Subject:
    """Return the subject of a golden image, whose raw disk and whose tree's tar are given."""
    return Subject(
        name=record.appliance,
        title=record.description,
        version=record.full_version,
        digest=record.golden_digest,
        raw=raw,
        size_bytes=record.disk_size_bytes,
        tree=tree,
        tree_key=record.tree_key,
        build=record.build,
        memory_mib=record.memory_mib,
        vcpus=record.vcpus,
        cmdline=record.kernel_cmdline,
        epoch=record.source_date_epoch,
    )


@contextmanager
def golden_subject(golden: Golden) -> Iterator[Subject]:
    """Give the subject of a golden image: from the cache, or where that was emptied its disk unpacked from the qcow2.

    Raises CentralitaError where the tree is not in the cache any more, or the qcow2 does not hold the golden disk.
    """
    record = golden.record
    store = cache.Store()
    tree = store.get("ostree", record.tree_key)
    if tree is None:
        raise CentralitaError(
            f"the OS tree of {record.appliance} {record.full_version} is not in the cache any more",
            hint=f"invoke build {record.appliance}",
        )
    disk = store.get("disk", record.disk_key)
    if disk is not None:
        yield subject_of(record, disk / "disk.raw", tree / "tree.tar")
        return
    with ledger.default().tempdir("golden-", parent=paths.cache_dir()) as folder:
        raw = folder / "disk.raw"
        run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", golden.qcow2_path, raw])
        if raw_digest(raw) != record.golden_digest:
            raise CentralitaError(f"{golden.qcow2_path} does not hold the golden disk", hint="build it again")
        yield subject_of(record, raw, tree / "tree.tar")
