"""`invoke clean`: what killed runs left, and the caches."""

from __future__ import annotations

import shutil
from pathlib import Path

from centralita.clone.registry import Registry
from centralita.ground import cache, ledger, paths
from centralita.ground.errors import CentralitaError
from centralita.ground.report import get_reporter
from centralita.hosts.records import RECORD, read_clone


def clean_orphans() -> list[str]:
    """Release what runs that are no more had made: loops, mounts, namespaces, processes, folders."""
    book = ledger.default()
    reporter = get_reporter()
    released = book.release_orphans(reporter.info)
    left = book.orphans()
    reporter.info(f"{len(released)} things released, {len(left)} left")
    for entry in left:
        reporter.warn(f"could not be released: {entry.what}")
    return released


def overlays_of(folder: Path) -> list[str]:
    """Return the names of the clones whose system disk is an overlay of an image in a folder."""
    used = []
    for claim in Registry().all():
        # What is left of a removed clone, or of one that somebody removed by hand, is an overlay of nothing.
        if (Path(claim.folder) / RECORD).is_file():
            backing = read_clone(Path(claim.folder)).backing
            if backing is not None and backing.resolve().is_relative_to(folder.resolve()):
                used.append(claim.name)
    return used


def clean_caches(*, packages: bool, output: bool, dry_run: bool) -> int:
    """Empty the build cache (and package files, and output/ where asked); returns the bytes freed.

    Identities of tenants are never touched. Raises CentralitaError, and removes nothing, where clones are overlays of
    golden images in output/.
    """
    if output:
        used = overlays_of(paths.output_dir())
        if used:
            raise CentralitaError(
                f"clones are overlays of golden images in {paths.output_dir()}: {', '.join(used)}",
                hint="invoke remove CLONE first; without --output only caches are emptied",
            )
    reporter = get_reporter()
    folders = [paths.cache_dir() / "store"]
    if packages:
        folders.append(paths.cache_dir() / "debs")
    if output:
        folders.append(paths.output_dir())
    freed = 0
    for folder in folders:
        if not folder.is_dir():
            continue
        size = cache.disk_usage(folder)
        freed += size
        reporter.info(f"{folder}: {size / 1e6:.0f} MB" + (" would be freed" if dry_run else ""))
        if not dry_run:
            for child in list(folder.iterdir()):
                if child.is_dir() and not child.is_symlink():
                    shutil.rmtree(child)
                else:
                    child.unlink()
    reporter.info(f"{freed / 1e6:.0f} MB {'would be ' if dry_run else ''}freed")
    return freed
