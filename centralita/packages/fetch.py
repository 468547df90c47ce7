"""The store of package files: each .deb once, under its SHA-256, whatever appliance or mirror it came for."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from centralita.ground import ledger
from centralita.ground.paths import cache_dir
from centralita.ground.report import get_reporter
from centralita.packages.lockfile import LockedPackage
from centralita.packages.mirror import apt_fetch

PARALLEL_FETCHES = 4


@dataclass(frozen=True)
class Fetched:
    """``paths`` by SHA-256 for what came; ``missing`` for what no mirror had, with its locked digest."""

    paths: dict[str, Path]
    missing: tuple[LockedPackage, ...]
    downloaded_bytes: int


def deb_path(package: LockedPackage) -> Path:
    """Where the store keeps a package's file."""
    return cache_dir() / "debs" / f"{package.sha256}.deb"


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _take(package: LockedPackage, part: Path) -> bool:
    """Move a downloaded file into the store if it is the locked one."""
    if not part.is_file() or sha256_of(part) != package.sha256:
        return False
    part.rename(deb_path(package))
    return True


def _fetch_from(mirror: str, wanted: Sequence[LockedPackage], folder: Path) -> list[LockedPackage]:
    """Fetch from one mirror, several connections at once; returns what did not come or was not as locked."""
    step = max(1, -(-len(wanted) // (PARALLEL_FETCHES * 3)))
    chunks = [wanted[i : i + step] for i in range(0, len(wanted), step)]

    def fetch(chunk: Sequence[LockedPackage]) -> None:
        items = [(f"{mirror}/{p.path}", folder / p.sha256, p.sha256) for p in chunk]
        if not apt_fetch(items, check=False) and len(chunk) > 1:
            # apt-helper stops at its first failure: ask for the rest one by one.
            for item in items:
                if not item[1].exists():
                    apt_fetch([item], check=False)

    with ThreadPoolExecutor(PARALLEL_FETCHES) as pool:
        list(pool.map(fetch, chunks))
    return [p for p in wanted if not _take(p, folder / p.sha256)]


def fetch_packages(packages: Sequence[LockedPackage], mirrors: Sequence[str]) -> Fetched:
    """Bring every package into the store, from the first mirror that has exactly the locked file.

    A file is used only if its SHA-256 is the locked one; one that is already stored is not fetched again.
    """
    store = cache_dir() / "debs"
    store.mkdir(parents=True, exist_ok=True)
    wanted = [p for p in packages if not deb_path(p).is_file()]
    missing = wanted
    if wanted:
        # Inside the store's own file system, so that taking a file is a rename.
        with ledger.default().tempdir("fetch-", parent=cache_dir()) as folder:
            for mirror in mirrors:
                missing = _fetch_from(mirror, missing, folder)
                if not missing:
                    break
                get_reporter().info(f"{mirror} lacks {len(missing)} of the locked packages")
    came = {p.sha256 for p in packages} - {p.sha256 for p in missing}
    return Fetched(
        paths={p.sha256: deb_path(p) for p in packages if p.sha256 in came},
        missing=tuple(missing),
        downloaded_bytes=sum(p.size_bytes for p in wanted) - sum(p.size_bytes for p in missing),
    )
