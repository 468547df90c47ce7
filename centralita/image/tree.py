"""The OS tree as a tar that depends on its contents alone: sorted, one time, numeric owners.

What mke2fs reads in this order it writes in this order, so the same tree gives the same file system.
"""

from __future__ import annotations

import copy
import io
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

# Made by the kernel at boot, or by nobody: only the folder itself belongs to the tree.
EMPTY_FOLDERS = ("dev", "proc", "sys", "run", "tmp", "mnt")
# The one extended attribute that Debian's packages use (ping's capability); others are the build host's (SELinux).
KEPT_XATTR = "SCHILY.xattr.security.capability"


@dataclass(frozen=True)
class ExtraFile:
    """A file added to a tree: ``path`` without a leading slash. A ``link`` makes it a symbolic link instead."""

    path: str
    content: bytes = b""
    mode: int = 0o644
    link: str | None = None


def _clean(member: tarfile.TarInfo, epoch: int) -> tarfile.TarInfo:
    member = copy.copy(member)
    member.name = member.name.removeprefix("./").rstrip("/")
    member.linkname = member.linkname.removeprefix("./") if member.islnk() else member.linkname
    member.uname = member.gname = ""
    member.mtime = epoch
    member.pax_headers = {k: v for k, v in member.pax_headers.items() if k == KEPT_XATTR}
    return member


def _kept(name: str) -> bool:
    top, _, below = name.partition("/")
    return name not in ("", ".", "lost+found") and not (below and top in EMPTY_FOLDERS)


def normalise(source: Path, target: Path, epoch: int) -> int:
    """Write the tar *source* anew as *target* in canonical form; returns the bytes of its regular files.

    Of several names of one file the first in order becomes the file and the others its links.
    """
    with tarfile.open(source) as tar, tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as out:
        members = {m.name: m for m in (_clean(m, epoch) for m in tar) if _kept(m.name)}
        for name in EMPTY_FOLDERS:
            if name not in members:
                folder = tarfile.TarInfo(name)
                folder.type, folder.mode, folder.mtime = tarfile.DIRTYPE, 0o755, epoch
                members[name] = folder
        first_names: dict[str, str] = {}
        for name in sorted(members):
            if members[name].islnk():
                first_names.setdefault(members[name].linkname, min(name, members[name].linkname))
        total = 0
        for name in sorted(members):
            member = members[name]
            original = member.linkname if member.islnk() else name
            first = first_names.get(original, name)
            if name == first and (member.isreg() or member.islnk()):
                data_of = members[original]
                entry = _renamed(data_of, name)
                # extractfile() goes by the offset of the data, which the copy has kept.
                out.addfile(entry, tar.extractfile(data_of))
                total += entry.size
            elif original in first_names:
                out.addfile(_linked(members[original], name, first))
            else:
                out.addfile(member)
        return total


def _renamed(member: tarfile.TarInfo, name: str) -> tarfile.TarInfo:
    entry = copy.copy(member)
    entry.name = name
    return entry


def _linked(member: tarfile.TarInfo, name: str, first: str) -> tarfile.TarInfo:
    entry = _renamed(member, name)
    entry.type, entry.linkname, entry.size = tarfile.LNKTYPE, first, 0
    return entry


def append(path: Path, files: Iterable[ExtraFile], epoch: int) -> None:
    """Append files, owned by root, to a canonical tar; folders that the tree lacks come first."""
    with tarfile.open(path, "a", format=tarfile.PAX_FORMAT) as out:
        there = set(out.getnames())
        for item in files:
            parts = item.path.split("/")
            for i in range(1, len(parts)):
                name = "/".join(parts[:i])
                if name not in there:
                    there.add(name)
                    folder = tarfile.TarInfo(name)
                    folder.type, folder.mode, folder.mtime = tarfile.DIRTYPE, 0o755, epoch
                    out.addfile(folder)
            entry = tarfile.TarInfo(item.path)
            entry.mtime = epoch
            if item.link is not None:
                entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, item.link, 0o777
                out.addfile(entry)
            else:
                entry.size, entry.mode = len(item.content), item.mode
                out.addfile(entry, io.BytesIO(item.content))


def dpkg_status(path: Path) -> str:
    """The dpkg database of a tree's tar: what is installed in it."""
    with tarfile.open(path) as tar:
        stream = tar.extractfile("var/lib/dpkg/status")
        assert stream is not None
        return stream.read().decode()
