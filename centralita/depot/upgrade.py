"""Makes the files of a newer image of an older one that is here and a delta, instead of downloading them whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from centralita.depot.client import Depot, fetch_verified
from centralita.depot.deltas import apply_delta, in_output, raw_disk
from centralita.depot.index import Delta, Listed
from centralita.depot.record import Release, ReleaseFile
from centralita.ground import ledger, paths
from centralita.ground.errors import CentralitaError
from centralita.ground.report import get_reporter
from centralita.image.disk import raw_digest
from centralita.image.formats import write_qcow2, write_zst
from centralita.image.record import GoldenRecord
from centralita.packages.fetch import sha256_of
from centralita.packages.tools import ToolsTree, tools_tree

#: What can be made of a raw disk here, byte for byte as it was published.
WRITERS: dict[str, Callable[[Path, Path, ToolsTree], None]] = {"qcow2": write_qcow2, "raw.zst": write_zst}


def upgraded(
    depot: Depot, listed: Listed, release: Release, files: Sequence[ReleaseFile], store: Path
) -> dict[str, Path]:
    """Those of a release's files that could be made by a delta, by their format, each in *store* under its SHA-256.

    Empty where no older image is here that a delta starts from, and where that would download more. What goes wrong is
    told, and leaves the files to be downloaded. What is returned is as signed, byte for byte.
    """
    files = [file for file in files if file.format in WRITERS]
    chosen = _smallest(listed)
    if not files or chosen is None:
        return {}
    delta, image = chosen
    left = sum(file.size_bytes - _begun(store / file.sha256) for file in files)
    if delta.size_bytes >= left:
        return {}
    try:
        return _made(depot, delta, image, release, files, store)
    except CentralitaError as error:
        get_reporter().warn(f"the delta from {delta.from_version} does not help: {error.message}; taking the whole")
        return {}


def _begun(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _smallest(listed: Listed) -> tuple[Delta, tuple[GoldenRecord, Path]] | None:
    """The smallest delta that starts from an image in output/."""
    for delta in sorted(listed.deltas, key=lambda delta: delta.size_bytes):
        image = in_output(listed.appliance, delta.from_golden_digest)
        if image is not None:
            return delta, image
    return None


def _made(
    depot: Depot,
    delta: Delta,
    image: tuple[GoldenRecord, Path],
    release: Release,
    files: Sequence[ReleaseFile],
    store: Path,
) -> dict[str, Path]:
    part = store / delta.sha256
    fetch_verified(depot.reader, delta, part, f"delta from {delta.from_version}")
    try:
        return _applied(part, image, release, files, store)
    finally:
        part.unlink()


def _applied(
    delta: Path, image: tuple[GoldenRecord, Path], release: Release, files: Sequence[ReleaseFile], store: Path
) -> dict[str, Path]:
    made = {}
    with ledger.default().tempdir("upgrade-", parent=paths.cache_dir()) as folder:
        with get_reporter().step("apply the delta"):
            tools = tools_tree("formats")
            raw = folder / "disk.raw"
            with raw_disk(*image) as old:
                apply_delta(old, delta, raw, tools)
            if raw_digest(raw) != release.golden_digest:
                raise CentralitaError("what it makes is not the disk that was signed")
        for file in files:
            with get_reporter().step(f"make {file.name}"):
                target = folder / file.name
                WRITERS[file.format](raw, target, tools)
                if sha256_of(target) != file.sha256:
                    raise CentralitaError(f"{file.name} made here has other bytes than the published one")
            target.replace(store / file.sha256)
            made[file.format] = store / file.sha256
    return made
