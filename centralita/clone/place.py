"""Puts a finished folder into its place in one step, also where a data disk waits there."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from centralita.clone.data import DATA_DISK, is_kept
from centralita.ground.errors import CentralitaError

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2  # linux/fs.h


def take_kept_disk(new: Path, dest: Path) -> bool:
    """Link the data disk that waits in ``dest`` into the folder ``new``; tell whether there is one.

    It has two names until the folders change places, so that it is never without one.
    """
    if not is_kept(dest):
        return False
    try:
        os.link(dest / DATA_DISK, new / DATA_DISK)
    except OSError as error:
        raise CentralitaError(f"{dest / DATA_DISK} cannot be linked: {error.strerror}") from error
    return True


def place(new: Path, dest: Path) -> None:
    """Move a finished folder into its place. Nothing that came there meanwhile is replaced, but for a kept data disk.

    ``new`` may be there afterwards, with the data disk's second name and nothing else.
    """
    try:
        if not is_kept(dest):
            new.rename(dest)
            return
        if not (new / DATA_DISK).samefile(dest / DATA_DISK):
            raise CentralitaError(f"{dest / DATA_DISK} is not the disk that was there before")
        exchange(new, dest)
    except OSError as error:
        raise CentralitaError(f"{dest} cannot be put into its place: {error.strerror}") from error


def exchange(one: Path, other: Path) -> None:
    """Let two folders change places (renameat2(2)); Python has no function for it."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(other))
