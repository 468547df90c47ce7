"""A file of a guest, as rendering makes it and injection writes it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import PurePosixPath


@dataclass(frozen=True)
class GuestFile:
    """One file to be written into a guest; a symbolic link where ``symlink`` holds a target, or a folder.

    ``path`` is absolute in the guest; ``owner`` and ``group`` are names that the guest's own ``/etc/passwd`` and
    ``/etc/group`` know. ``secret`` keeps the content out of records, logs and ``repr``. Folders that are not listed
    and not there are made with mode 0755.
    """

    path: str
    content: bytes = field(default=b"", repr=False)
    mode: int = 0o644
    owner: str = "root"
    group: str = "root"
    secret: bool = False
    symlink: str | None = None
    directory: bool = False

    def __post_init__(self) -> None:
        path = PurePosixPath(self.path)
        if not path.is_absolute() or ".." in path.parts or str(path) != self.path or self.path == "/":
            raise ValueError(f"not an absolute path in a guest: {self.path!r}")
