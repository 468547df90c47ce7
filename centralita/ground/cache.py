"""The content-addressed cache: a folder for each result, named by the digest of all that it was made from."""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
import json
import os
import re
import shutil
import stat
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from centralita.ground import ledger, paths
from centralita.ground.errors import CentralitaError
from centralita.ground.report import get_reporter

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
#: What Python leaves in a folder of code; never part of what a result is made from.
_IGNORED = frozenset({"__pycache__"})


class _Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...


def digest_of(*parts: object) -> str:
    """SHA-256 (hexadecimal) over values, the same in every process and on every machine.

    Takes what JSON can hold, bytes, tuples, sets, dataclasses, pydantic models, and Paths, which stand for their
    *contents*: of a file its bytes and x-bit, of a link its target, of a folder all of that by name (`__pycache__`
    excepted). Owners, times and the path itself do not count.
    Raises CentralitaError for a path that is not there, TypeError for anything else.
    """
    total = hashlib.sha256()
    for part in parts:
        _feed(total, part)
    return total.hexdigest()


def _feed(total: _Hash, part: object) -> None:
    """Adds one value with its type and length, so that no two different values look the same."""
    if isinstance(part, Path):
        _feed_path(total, part)
    elif isinstance(part, bytes):
        total.update(b"b%d:" % len(part) + part)
    elif part is None or isinstance(part, (bool, int, float, str)):
        text = json.dumps(str(part) if isinstance(part, str) else part).encode()
        total.update(b"j%d:" % len(text) + text)
    elif isinstance(part, Mapping):
        total.update(b"m%d:" % len(part))
        for key in sorted(part, key=str):
            _feed(total, str(key))
            _feed(total, part[key])
    elif isinstance(part, (list, tuple)):
        total.update(b"l%d:" % len(part))
        for item in part:
            _feed(total, item)
    elif isinstance(part, AbstractSet):
        digests = sorted(digest_of(item) for item in part)
        _feed(total, ["set", *digests])
    elif dataclasses.is_dataclass(part) and not isinstance(part, type):
        _feed(total, {field.name: getattr(part, field.name) for field in dataclasses.fields(part)})
    elif hasattr(part, "model_dump"):
        _feed(total, part.model_dump(mode="json"))
    else:
        raise TypeError(f"cannot take the digest of a {type(part).__name__}")


def _feed_path(total: _Hash, path: Path) -> None:
    try:
        status = path.lstat()
        if stat.S_ISLNK(status.st_mode):
            _feed(total, ["link", str(path.readlink())])
        elif stat.S_ISDIR(status.st_mode):
            entries = sorted(entry for entry in path.iterdir() if entry.name not in _IGNORED)
            _feed(total, ["folder", len(entries)])
            for entry in entries:
                _feed(total, entry.name)
                _feed_path(total, entry)
        else:
            with path.open("rb") as stream:
                content = hashlib.file_digest(stream, "sha256").hexdigest()
            _feed(total, ["file", bool(status.st_mode & 0o111), content])
    except OSError as error:
        raise CentralitaError(f"cannot read {path}: {error.strerror}") from error


class Store:
    """Results below one folder, as `STAGE/KEY/`. One that is there is complete: it was renamed into its place."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = (root or paths.cache_dir() / "store").resolve()

    def _place(self, stage: str, key: str) -> Path:
        for name in (stage, key):
            if not _NAME.fullmatch(name):
                raise ValueError(f"not a name for the cache: {name!r}")
        return self.root / stage / key

    def get(self, stage: str, key: str) -> Path | None:
        """The folder of a result, None where it is not there. Its time of change becomes now: it was of use."""
        place = self._place(stage, key)
        if not place.is_dir():
            return None
        try:
            os.utime(place)
        except OSError:
            return place if place.is_dir() else None
        return place

    @contextmanager
    def put(self, stage: str, key: str) -> Iterator[Path]:
        """A new folder to write a result into; when the block ends well it is renamed into its place.

        Otherwise (and after `kill -9`, by the ledger) nothing of it is left. Where another run has put the same
        key meanwhile, that one stays: the same key means the same result.
        """
        place = self._place(stage, key)
        place.parent.mkdir(parents=True, exist_ok=True)
        with ledger.default().tempdir(f".new-{key[:16]}-", place.parent, mode=0o755) as folder:
            yield folder
            try:
                folder.rename(place)
            except OSError:
                if not place.is_dir():
                    raise

    def size(self) -> int:
        """Bytes on the disk (holes do not count)."""
        return disk_usage(self.root)

    def keys(self, stage: str) -> list[str]:
        """The keys of one stage, the last used first."""
        folder = self.root / stage
        if not folder.is_dir():
            return []
        found = [entry for entry in folder.iterdir() if _NAME.fullmatch(entry.name)]
        return [entry.name for entry in sorted(found, key=lambda entry: entry.stat().st_mtime, reverse=True)]

    def clear(self) -> int:
        """Removes all results, and returns how many bytes that freed. What a run is just writing stays."""
        before = self.size()
        if self.root.is_dir():
            for stage in self.root.iterdir():
                for key in self.keys(stage.name):
                    shutil.rmtree(stage / key)
        return before - self.size()


def disk_usage(folder: Path) -> int:
    """Bytes that a folder takes on the disk, each file once however many names it has."""
    seen: set[tuple[int, int]] = set()
    total = 0
    queue = [folder]
    while queue:
        try:
            with os.scandir(queue.pop()) as entries:
                for entry in entries:
                    status = entry.stat(follow_symlinks=False)
                    if entry.is_dir(follow_symlinks=False):
                        queue.append(Path(entry.path))
                    elif (status.st_dev, status.st_ino) not in seen:
                        seen.add((status.st_dev, status.st_ino))
                        total += status.st_blocks * 512
        except FileNotFoundError:
            continue  # removed while we looked
    return total


@contextmanager
def lock(name: str) -> Iterator[None]:
    """Holds a lock between processes (flock(2) on a file in the cache), and says so while it has to wait for it."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"not a name for a lock: {name!r}")
    folder = paths.cache_dir() / "locks"
    folder.mkdir(exist_ok=True)
    with (folder / f"{name}.lock").open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            get_reporter().info(f"waiting for another run that holds the lock {name}")
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield
