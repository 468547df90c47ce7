"""Opens the place that `--to` names, and what `--from` does."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

from centralita.depot.place import FolderPlace, Place
from centralita.depot.reader import Progress, Reader, open_reader
from centralita.ground.errors import CentralitaError

HINT = (
    "a folder, HOST:FOLDER, rsync+ssh://[USER@]HOST[:PORT]/FOLDER, s3://BUCKET/PREFIX?endpoint=URL, oci://HOST/NAME; "
    "to read, http(s)://… too"
)
_SSH = ("ssh", "rsync+ssh")
# As rsync(1) and scp(1): a colon before the first slash.
_SCP = re.compile(r"(?P<host>(?:[^/:@\s]+@)?(?:\[[0-9a-fA-F:.]+\]|[^/:@\s]+)):(?P<folder>[^\s].*)")


def open_place(to: str) -> Place:
    """The place at an address. Raises CentralitaError for an address of no kind that is known."""
    parts = urlsplit(to)
    if "@" in parts.netloc and ":" in parts.netloc.rpartition("@")[0]:
        raise CentralitaError(
            "a password may not stand in an address: others see it in the list of processes",
            hint="ssh has keys; object stores and registries have files and variables for it (docs/depot.md)",
        )
    if parts.scheme == "file":
        return FolderPlace(Path(unquote(parts.path)))
    if parts.scheme in _SSH:
        return _over_ssh(to, to.partition(":")[2], parts.path.removeprefix("/~/"))
    if parts.scheme == "s3":
        from centralita.depot.s3_place import S3Place

        return S3Place(to)
    if parts.scheme in ("oci", "oci+http"):
        from centralita.depot.registry_place import RegistryPlace

        return RegistryPlace(to)
    if "://" in to or not to:
        raise CentralitaError(f"{to!r} is no place for a depot", hint=HINT)
    if (match := _SCP.fullmatch(to)) and not Path(to).exists():
        return _over_ssh(to, f"//{match['host']}", match["folder"])
    return FolderPlace(Path(to))


class PlaceReader:
    """Reads a depot from where it is written."""

    def __init__(self, place: Place, url: str) -> None:
        self.place, self.url = place, url

    def read(self, path: str, limit: int) -> bytes | None:
        """See Reader."""
        return self.place.read(path, limit)

    def fetch(self, path: str, target: Path, size_bytes: int, progress: Progress) -> None:
        """See Reader."""
        self.place.fetch(path, target, size_bytes, progress)


@contextmanager
def open_source(url: str) -> Iterator[Reader]:
    """A reader for any address that a depot can have: those of web servers, and those of places.

    Raises CentralitaError for one of no kind that is known.
    """
    if urlsplit(url).scheme in ("http", "https"):
        yield open_reader(url)
        return
    place = open_place(url)
    if isinstance(place, FolderPlace):
        yield open_reader(url)
        return
    with place.opened():
        yield PlaceReader(place, url.rstrip("/"))


def _over_ssh(to: str, rest: str, folder: str) -> Place:
    from centralita.depot.ssh_place import SshPlace
    from centralita.hosts.address import ssh_target

    folder = unquote(folder).rstrip("/")
    if not folder:
        raise CentralitaError(f"{to} names no folder on that host", hint=HINT)
    return SshPlace(ssh_target(to, rest), folder)
