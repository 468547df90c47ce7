"""Deltas: what makes a release's disk of an older one's, so that an upgrade downloads little.

A delta is `zstd --patch-from` over both disks, packed (see `packed`): where a package changed, all later blocks of a
file system lie elsewhere, which a comparison of blocks or of compressed images would not see. It is signed by its
digest in the index, and what comes out is the disk that the record signs, or nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import centralita.depot
from centralita.depot.compose import digests_of, read_golden
from centralita.depot.index import Delta, Listed
from centralita.depot.packed import pack, unpack
from centralita.depot.place import FolderPlace, Place, Upload
from centralita.depot.record import Release, path_version, version_key
from centralita.ground import cache, ledger, paths
from centralita.ground.errors import CentralitaError
from centralita.ground.report import Step, get_reporter
from centralita.ground.run import run
from centralita.image.build import Golden
from centralita.image.disk import raw_digest
from centralita.image.record import GoldenRecord, load_record
from centralita.packages.tools import TOOL_SETS, ToolsTree, tools_tree

#: Against how many older releases a publish makes deltas.
DELTAS = 3
LEVEL = 9
#: zstd's largest window (2^31 bytes) must hold both files, and memory about three times one of them.
PACKED_LIMIT_BYTES = 1 << 30
#: A delta that saves less than half is not worth its place.
WORTH = 0.5


def make_delta(old: Path, new: Path, target: Path, tools: ToolsTree) -> None:
    """Write what makes the raw disk *new* of the raw disk *old*. Raises CentralitaError where they are too large."""
    with ledger.default().tempdir("delta-", parent=paths.cache_dir()) as folder:
        for raw, name in ((old, "old"), (new, "new")):
            size = pack(raw, folder / name)
            if size > PACKED_LIMIT_BYTES:
                raise CentralitaError(f"there are {size >> 20} MiB in the disk, more than {PACKED_LIMIT_BYTES >> 20}")
        # One worker: the bytes must not depend on the host's processors.
        argv: list[str | Path] = [
            "-q",
            f"-{LEVEL}",
            "--long=31",
            "-T1",
            f"--patch-from={folder / 'old'}",
            folder / "new",
            "-o",
            target,
        ]
        run([*tools.command("zstd"), *argv])


def apply_delta(old: Path, delta: Path, target: Path, tools: ToolsTree) -> None:
    """Write the raw disk that a delta makes of the raw disk *old*. Raises CentralitaError where it does not fit."""
    with ledger.default().tempdir("delta-", parent=paths.cache_dir()) as folder:
        pack(old, folder / "old")
        argv: list[str | Path] = [
            "-q",
            "-d",
            "--long=31",
            f"--patch-from={folder / 'old'}",
            delta,
            "-o",
            folder / "new",
        ]
        run([*tools.command("zstd"), *argv])
        unpack(folder / "new", target)


@contextmanager
def raw_disk(record: GoldenRecord, qcow2: Path) -> Iterator[Path]:
    """The raw disk of a golden image: from the cache, else out of its qcow2.

    Raises CentralitaError where that is not the disk that the record names.
    """
    cached = cache.Store().get("disk", record.disk_key)
    if cached is not None and raw_digest(cached / "disk.raw") == record.golden_digest:
        yield cached / "disk.raw"
        return
    with ledger.default().tempdir("golden-", parent=paths.cache_dir()) as folder:
        raw = folder / "disk.raw"
        run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", qcow2, raw])
        if raw_digest(raw) != record.golden_digest:
            raise CentralitaError(f"{qcow2} does not hold the golden disk {record.golden_digest[:12]}…")
        yield raw


def in_output(appliance: str, golden_digest: str) -> tuple[GoldenRecord, Path] | None:
    """The record and the qcow2 of an image in output/, None where it is not there."""
    home = paths.output_dir() / appliance
    for path in sorted(home.glob(f"*/{appliance}.json")):
        try:
            record = load_record(path)
            qcow2 = record.file_of(path.parent, "qcow2")
        except CentralitaError:
            continue
        if record.golden_digest == golden_digest and qcow2.is_file():
            return record, qcow2
    return None


def _older_image(place: Place, release: Release) -> tuple[GoldenRecord, Path] | None:
    """The image of an older release: from output/, else from a depot in a folder."""
    found = in_output(release.appliance, release.golden_digest)
    file = release.file("qcow2")
    if found is not None or file is None or not isinstance(place, FolderPlace):
        return found
    record = read_golden(place, release)
    return None if record is None else (record, place.folder / file.path)


def older_than(release: Release, others: Sequence[Release], count: int) -> list[Release]:
    """The *count* newest releases that an upgrade to this one may come from, the newest first."""

    def age(r: Release) -> tuple[object, ...]:
        return version_key(r.version), r.created

    found = [r for r in others if r.appliance == release.appliance and r.golden_digest != release.golden_digest]
    older = [r for r in found if age(r) < age(release)]
    return sorted(older, key=age, reverse=True)[: max(count, 0)]


def publish_deltas(
    golden: Golden, release: Release, others: Sequence[Release], before: Listed | None, place: Place, count: int
) -> list[tuple[Delta, Path | None]]:
    """The deltas that lead to a release, from the *count* releases before it; those that are published stay.

    An older image that is neither here nor in a folder's depot has none, which is said; so has one that cannot be read.
    """
    there = [Upload(delta, None) for delta in (before.deltas if before else ())]
    broken = {upload.path for upload in place.missing(there)}
    made: list[tuple[Delta, Path | None]] = [
        (delta, None) for delta in (before.deltas if before else ()) if delta.path not in broken
    ]
    known = {delta.from_golden_digest for delta, _source in made}
    wanted = [r for r in older_than(release, others, count) if r.golden_digest not in known]
    if not wanted:
        return made
    full = min((file.size_bytes for file in release.files if file.format in ("qcow2", "raw.zst")), default=0)
    with get_reporter().step("deltas", total=len(wanted)) as step:
        for old in wanted:
            try:
                path = _cached_delta(golden, release, old, place, step)
            except CentralitaError as error:
                get_reporter().warn(f"no delta from {old.version}: {error.message}")
                path = None
            step.advance(1)
            if path is None:
                continue
            found = digests_of(path)
            if found.size_bytes > full * WORTH:
                get_reporter().info(f"no delta from {old.version}: it would have {found.size_bytes / 1e6:.1f} MB")
                continue
            name = f"from-{path_version(old.version)}-{found.sha256[:12]}.delta.zst"
            delta = Delta(
                path=f"{release.folder}/{name}",
                size_bytes=found.size_bytes,
                sha256=found.sha256,
                from_version=old.version,
                from_golden_digest=old.golden_digest,
            )
            made.append((delta, path))
    return sorted(made, key=lambda pair: pair[0].path)


def _cached_delta(golden: Golden, release: Release, old: Release, place: Place, step: Step) -> Path | None:
    """A delta from the cache, or made into it; None where the older image is not here.

    Raises CentralitaError where it cannot be made.
    """
    store = cache.Store()
    code = Path(centralita.depot.__file__).parent
    key = cache.digest_of(
        "delta", old.golden_digest, release.golden_digest, LEVEL, TOOL_SETS["formats"].lock_path,
        [code / "deltas.py", code / "packed.py"],
    )  # fmt: skip
    if store.get("delta", key) is None:
        image = _older_image(place, old)
        if image is None:
            get_reporter().info(f"no delta from {old.version}: its image is not here (`invoke pull` brings it)")
            return None
        with raw_disk(*image) as before, raw_disk(golden.record, golden.qcow2_path) as after:
            step.note(f"from {old.version}")
            with store.put("delta", key) as folder:
                make_delta(before, after, folder / "delta.zst", tools_tree("formats"))
                (folder / "delta.zst").chmod(0o444)
    found = store.get("delta", key)
    assert found is not None
    return found / "delta.zst"
