"""Reads a depot from where it is served: a folder, or HTTP. What it returns is verified by nobody yet."""

from __future__ import annotations

import http.client
import os
import stat
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Protocol
from urllib.parse import quote, unquote, urlsplit

from centralita.ground.errors import CentralitaError

BLOCK = 1024 * 1024
_TIMEOUT_S = 60.0
Progress = Callable[[int], None]


class Reader(Protocol):
    """Where a depot is read from. ``url`` is how it is shown, and remembered."""

    url: str

    def read(self, path: str, limit: int) -> bytes | None:
        """Return a file's bytes, None where it is not there. Raises CentralitaError where it is over *limit* bytes."""

    def fetch(self, path: str, target: Path, size_bytes: int, progress: Progress) -> None:
        """Bring a file of a known size into *target*; what is in it already is taken for its beginning.

        Raises CentralitaError where it is not there, or shorter or longer. *progress* gets the bytes that came.
        """


def open_reader(url: str) -> Reader:
    """A reader for an http(s):// or file:// address, or a folder. Raises CentralitaError for another."""
    parts = urlsplit(url)
    if parts.scheme in ("http", "https"):
        return HttpReader(url)
    if parts.scheme == "file":
        return FolderReader(Path(unquote(parts.path)))
    if "://" in url:
        raise CentralitaError(f"a depot cannot be read from {url}", hint="http(s)://…, file://… or a folder")
    return FolderReader(Path(url))


class FolderReader:
    """A depot in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.url = f"file://{quote(str(self.folder))}"

    def read(self, path: str, limit: int) -> bytes | None:
        """See Reader."""
        try:
            with self._open(path) as stream:
                data = stream.read(limit + 1)
        except FileNotFoundError:
            return None
        return within(data, limit, path)

    def fetch(self, path: str, target: Path, size_bytes: int, progress: Progress) -> None:
        """See Reader."""
        done = begun(target, size_bytes)
        try:
            with self._open(path) as stream:
                stream.seek(done)
                append(stream, target, done, size_bytes, progress, path)
        except FileNotFoundError as error:
            raise CentralitaError(f"{path} is not in the depot", hint=f"the folder is {self.folder}") from error

    @contextmanager
    def _open(self, path: str) -> Iterator[IO[bytes]]:
        """A plain file below the folder; links are not followed, wherever they may lead."""
        try:
            where = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
            for part in path.split("/")[:-1]:
                inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=where)
                os.close(where)
                where = inner
            try:
                opened = os.open(path.split("/")[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=where)
            finally:
                os.close(where)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise CentralitaError(f"{path} is a link or cannot be read: {error.strerror}") from error
        with os.fdopen(opened, "rb") as stream:
            if not stat.S_ISREG(os.fstat(opened).st_mode):
                raise CentralitaError(f"{path} is no plain file")
            yield stream


class HttpReader:
    """A depot on a web server."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    def read(self, path: str, limit: int) -> bytes | None:
        """See Reader."""
        with self._get(path, {"Cache-Control": "no-cache"}) as answer:
            if answer is None:
                return None
            try:
                data: bytes = answer.read(limit + 1)
            except (OSError, http.client.HTTPException) as error:
                raise self._broken(path, error) from error
        return within(data, limit, path)

    def fetch(self, path: str, target: Path, size_bytes: int, progress: Progress) -> None:
        """See Reader."""
        done = begun(target, size_bytes)
        if done == size_bytes and done:
            progress(done)
            return
        with self._get(path, {"Range": f"bytes={done}-"} if done else {}) as answer:
            if answer is None:
                raise CentralitaError(f"{self.url} has no {path}", hint="try again: it may just be publishing")
            if answer.status != 206:
                done = 0  # a server that knows no ranges sends all of it
            try:
                append(answer, target, done, size_bytes, progress, path)
            except (OSError, http.client.HTTPException) as error:
                raise self._broken(path, error) from error

    @contextmanager
    def _get(self, path: str, headers: dict[str, str]) -> Iterator[http.client.HTTPResponse | None]:
        request = urllib.request.Request(f"{self.url}/{quote(path)}", headers=headers)
        try:
            answer = urllib.request.urlopen(request, timeout=_TIMEOUT_S)
        except urllib.error.HTTPError as error:
            if error.code not in (403, 404, 410):  # an object store says 403 of what it may not list
                raise CentralitaError(f"{self.url} answers {error.code} {error.reason} for {path}") from error
            yield None
            return
        except (OSError, http.client.HTTPException) as error:
            raise self._broken(path, error) from error
        with answer:
            yield answer

    def _broken(self, path: str, error: Exception) -> CentralitaError:
        reason = getattr(error, "reason", None) or error
        return CentralitaError(f"cannot read {path} from {self.url}: {reason}", hint="the same command goes on with it")


def within(data: bytes, limit: int, path: str) -> bytes:
    """*data*, where it has at most *limit* bytes. Raises CentralitaError."""
    if len(data) > limit:
        raise CentralitaError(f"{path} is longer than {limit} bytes", hint="no depot of ours has that")
    return data


def begun(target: Path, size_bytes: int) -> int:
    """How much of a file is there from an earlier time; more than all of it is nothing."""
    try:
        have = target.stat().st_size
    except FileNotFoundError:
        return 0
    return have if have <= size_bytes else 0


def append(
    stream: IO[bytes] | http.client.HTTPResponse,
    target: Path,
    done: int,
    size_bytes: int,
    progress: Progress,
    path: str,
) -> None:
    """Write a stream to *target* behind its first *done* bytes. Raises CentralitaError for too few or too many."""
    progress(done)
    with target.open("r+b" if done else "wb") as out:
        out.seek(done)
        out.truncate()
        while block := stream.read(min(BLOCK, size_bytes - done + 1)):
            done += len(block)
            if done > size_bytes:
                out.truncate(0)
                raise CentralitaError(f"{path} is longer than the {size_bytes} bytes of its record")
            out.write(block)
            progress(len(block))
    if done < size_bytes:
        raise CentralitaError(
            f"{path} ended after {done} of {size_bytes} bytes: the download was cut off",
            hint="the same command goes on where it ended",
        )
