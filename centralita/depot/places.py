"""Opens the place that `--to` names."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from centralita.depot.place import FolderPlace, Place
from centralita.ground.errors import CentralitaError


def open_place(to: str) -> Place:
    """The place at an address. Raises CentralitaError for an address of no kind that is known."""
    parts = urlsplit(to)
    if parts.scheme == "file":
        return FolderPlace(Path(unquote(parts.path)))
    if "://" in to or not to:
        raise CentralitaError(f"cannot publish to {to!r}", hint="a folder, rsync://…, ssh://…, s3://… or oci://…")
    return FolderPlace(Path(to))
