"""Where a depot is written: what every kind of target has to be able to do, and the local folder."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from centralita.depot.index import Entry
from centralita.depot.reader import BLOCK, FolderReader, Progress
from centralita.ground.errors import CentralitaError
from centralita.ground.report import Step

#: What a publish writes before it is renamed into its place; not part of the depot.
WORK = ".publish"


@dataclass(frozen=True)
class Upload:
    """A file that must be in the depot: where, which bytes, and where they are now.

    ``alias`` is the path of a file of the depot with the same bytes; where ``source`` is None, they are only there.
    """

    entry: Entry
    source: Path | None
    alias: str = ""

    @property
    def path(self) -> str:
        """Its path in the depot."""
        return self.entry.path


class Place(Protocol):
    """A depot that can be written to."""

    #: As people see it; no secret.
    name: str

    def read(self, path: str, limit: int) -> bytes | None:
        """Return a file's bytes, None where it is not there."""

    def missing(self, uploads: Sequence[Upload]) -> list[Upload]:
        """Those of the uploads that are not there, or not with these bytes."""

    def put(self, uploads: Sequence[Upload], step: Step) -> None:
        """Put files there, each whole or not at all; the step advances by bytes."""

    def delete(self, paths: Sequence[str]) -> None:
        """Remove files; what is not there is no error."""

    def listing(self) -> list[str]:
        """The paths of all files."""

    def fetch(self, path: str, target: Path, size_bytes: int, progress: Progress) -> None:
        """Bring a file here, as a Reader does."""

    def opened(self) -> contextlib.AbstractContextManager[None]:
        """What has to be held open for reading; `locked` includes it."""

    def locked(self) -> contextlib.AbstractContextManager[None]:
        """Keeps another publish out, as well as this kind of target can."""


class FolderPlace:
    """A folder of this host. Files are copied: an image in output/ must not share its bytes with what is served."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.name = str(self.folder)
        self._reader = FolderReader(self.folder)

    def read(self, path: str, limit: int) -> bytes | None:
        """See Place."""
        return self._reader.read(path, limit)

    def missing(self, uploads: Sequence[Upload]) -> list[Upload]:
        """See Place. The bytes are read: a file of the right size may be a broken one."""
        return [upload for upload in uploads if not is_as(self.folder / upload.path, upload.entry)]

    def put(self, uploads: Sequence[Upload], step: Step) -> None:
        """See Place."""
        work = self.folder / WORK
        work.mkdir(exist_ok=True)
        for upload in uploads:
            target = self.folder / upload.path
            target.parent.mkdir(parents=True, exist_ok=True)
            part = work / hashlib.sha256(upload.path.encode()).hexdigest()[:24]
            if upload.alias:
                # Both are the depot's own, and neither is ever written to.
                part.unlink(missing_ok=True)
                os.link(self.folder / upload.alias, part)
                step.advance(upload.entry.size_bytes)
            else:
                _copy(upload, part, step)
            part.rename(target)
            _sync(target.parent)

    def delete(self, paths: Sequence[str]) -> None:
        """See Place. Folders that become empty go too."""
        for path in paths:
            target = self.folder / path
            target.unlink(missing_ok=True)
            for parent in target.parents:
                if parent == self.folder:
                    break
                try:
                    parent.rmdir()
                except OSError:
                    break

    def listing(self) -> list[str]:
        """See Place."""
        return [path.relative_to(self.folder).as_posix() for path in walk(self.folder)]

    def fetch(self, path: str, target: Path, size_bytes: int, progress: Progress) -> None:
        """See Place."""
        self._reader.fetch(path, target, size_bytes, progress)

    @contextmanager
    def opened(self) -> Iterator[None]:
        """See Place: nothing."""
        yield

    @contextmanager
    def locked(self) -> Iterator[None]:
        """See Place: flock(2) on the folder."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise CentralitaError(
                f"{self.folder} cannot be a depot: {error.strerror}", hint="name another --to"
            ) from error
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise CentralitaError(f"another publish writes to {self.folder}", hint="wait for it") from error
            shutil.rmtree(self.folder / WORK, ignore_errors=True)  # left by one that was killed
            yield
            shutil.rmtree(self.folder / WORK, ignore_errors=True)
        finally:
            os.close(descriptor)


def walk(folder: Path) -> Iterator[Path]:
    """Everything below a depot's folder that is no folder, in sorted order, links as themselves; not `.publish`."""
    for root, folders, files in os.walk(folder):
        base = Path(root)
        if base == folder and WORK in folders:
            folders.remove(WORK)
        folders.sort()
        links = [name for name in folders if (base / name).is_symlink()]
        for name in sorted([*files, *links]):
            yield base / name


def is_as(path: Path, entry: Entry) -> bool:
    """Whether a plain file with an entry's bytes is at a path."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    with os.fdopen(descriptor, "rb") as stream:
        if os.fstat(descriptor).st_size != entry.size_bytes:
            return False
        return hashlib.file_digest(stream, "sha256").hexdigest() == entry.sha256


def _copy(upload: Upload, part: Path, step: Step) -> None:
    """Copy, check on the way, and wait for the disk: an index must never name what a power cut takes back."""
    digest = hashlib.sha256()
    assert upload.source is not None
    try:
        with upload.source.open("rb") as source, part.open("wb") as out:
            while block := source.read(BLOCK):
                digest.update(block)
                out.write(block)
                step.advance(len(block))
            out.flush()
            os.fchmod(out.fileno(), 0o644)
            os.fsync(out.fileno())
    except OSError as error:
        hint = "free some space, and publish again" if error.errno == errno.ENOSPC else None
        raise CentralitaError(f"cannot write {upload.path}: {error.strerror}", hint=hint) from error
    if digest.hexdigest() != upload.entry.sha256:
        raise changed(upload)


def changed(upload: Upload) -> CentralitaError:
    """What to raise where a file is not what it was when its digest was taken."""
    return CentralitaError(f"{upload.source} changed while it was published", hint="build again, publish again")


def check_sources(uploads: Sequence[Upload]) -> None:
    """Raises CentralitaError where a file that was to be sent is not the one that its record names."""
    for upload in uploads:
        if upload.source is not None and not is_as(upload.source, upload.entry):
            raise changed(upload)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
