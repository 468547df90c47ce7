"""Writes cpio archives of the kind that the kernel unpacks as an initramfs, byte for byte reproducible.

Format: https://docs.kernel.org/driver-api/early-userspace/buffer-format.html ("newc").
"""

from __future__ import annotations

import stat
from dataclasses import dataclass, field


@dataclass
class CpioArchive:
    """An archive in memory. Owners are root; every time is zero; folders are made as needed, in order."""

    _out: bytearray = field(init=False, default_factory=bytearray)
    _inode: int = field(init=False, default=0)
    _folders: set[str] = field(init=False, default_factory=set)

    def _entry(self, name: str, mode: int, data: bytes, rdev: tuple[int, int] = (0, 0)) -> None:
        self._inode += 1
        encoded = name.encode() + b"\0"
        values = (self._inode, mode, 0, 0, 1, 0, len(data), 0, 0, *rdev, len(encoded), 0)
        self._out += b"070701" + b"".join(b"%08X" % v for v in values) + encoded
        self._pad()
        self._out += data
        self._pad()

    def _pad(self) -> None:
        self._out += b"\0" * (-len(self._out) % 4)

    def folder(self, name: str) -> None:
        """Add a folder and those above it."""
        parts = name.split("/")
        for i in range(1, len(parts) + 1):
            path = "/".join(parts[:i])
            if path not in self._folders:
                self._folders.add(path)
                self._entry(path, stat.S_IFDIR | 0o755, b"")

    def _parents(self, name: str) -> None:
        if "/" in name:
            self.folder(name.rsplit("/", 1)[0])

    def file(self, name: str, data: bytes, mode: int = 0o644) -> None:
        """Add a regular file with permission bits *mode*."""
        self._parents(name)
        self._entry(name, stat.S_IFREG | mode, data)

    def symlink(self, name: str, target: str) -> None:
        """Add a symbolic link."""
        self._parents(name)
        self._entry(name, stat.S_IFLNK | 0o777, target.encode())

    def device(self, name: str, major: int, minor: int, mode: int = 0o600) -> None:
        """Add a character device."""
        self._parents(name)
        self._entry(name, stat.S_IFCHR | mode, b"", (major, minor))

    def finish(self) -> bytes:
        """The whole archive, padded to 512 bytes."""
        self._inode = -1
        self._entry("TRAILER!!!", 0, b"")
        self._out += b"\0" * (-len(self._out) % 512)
        return bytes(self._out)
