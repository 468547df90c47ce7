"""`invoke clean`: what killed runs left, and the caches."""

from __future__ import annotations

import shutil

from centralita.ground import cache, ledger, paths
from centralita.ground.report import get_reporter


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


def clean_caches(*, packages: bool, output: bool, dry_run: bool) -> int:
    """Empty the build cache (and package files, and output/ where asked); returns the bytes freed.

    Identities of tenants are never touched.
    """
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
