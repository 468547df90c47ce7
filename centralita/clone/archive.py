"""A guest's files as a tar: owners by number, as the guest's own tables say."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Sequence

from centralita.clone.files import GuestFile
from centralita.ground.errors import CentralitaError


def archive(files: Sequence[GuestFile], users: dict[str, int], groups: dict[str, int], mtime: float) -> bytes:
    """Return the files as a tar with numeric owners. Raises CentralitaError for an owner that the guest has not."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        add_files(tar, files, users, groups, mtime)
    return buffer.getvalue()


def add_files(
    tar: tarfile.TarFile,
    files: Sequence[GuestFile],
    users: dict[str, int],
    groups: dict[str, int],
    mtime: float,
    *,
    below: str = "",
) -> None:
    """Add the files to a tar, in the folder ``below``; as `archive`."""
    for file in files:
        entry = tarfile.TarInfo(below + file.path if below else file.path.lstrip("/"))
        entry.mtime = int(mtime)
        entry.mode = file.mode
        entry.uid = _number(users, file.owner, "user", file.path)
        entry.gid = _number(groups, file.group, "group", file.path)
        if file.symlink is not None:
            entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, file.symlink, 0o777
            tar.addfile(entry)
        elif file.directory:
            entry.type = tarfile.DIRTYPE
            tar.addfile(entry)
        else:
            entry.size = len(file.content)
            tar.addfile(entry, io.BytesIO(file.content))


def _number(numbers: dict[str, int], name: str, kind: str, path: str) -> int:
    if name not in numbers:
        raise CentralitaError(f"{path}: the guest has no {kind} {name!r}", hint="build the appliance with that package")
    return numbers[name]


def numbers_of(table: bytes) -> dict[str, int]:
    """Return the names of a passwd(5) or group(5) file with their numbers."""
    numbers = {}
    for line in table.decode("utf-8", "replace").splitlines():
        fields = line.split(":")
        if len(fields) > 2 and fields[2].isdigit():
            numbers[fields[0]] = int(fields[2])
    return numbers
