"""A clone's data disk: made once, and never formatted again. elements/data-disk is the guest's side of it."""

from __future__ import annotations

import os
from pathlib import Path

from centralita.clone.files import GuestFile
from centralita.ground.run import run

DATA_DISK = "data.raw"
DATA_LABEL = "pbx-data"

#: What makes the guest wait for its data disk, and keeps Asterisk from running without it.
MARKER = GuestFile("/etc/centralita/data-disk", f"{DATA_LABEL}\n".encode("ascii"))


def make_data_disk(path: Path, size_mib: int) -> None:
    """Make a sparse disk with an empty ext4, whose journal is written by the guest's kernel."""
    path.touch(mode=0o600)
    os.truncate(path, size_mib * 1024 * 1024)
    lazy = "lazy_itable_init=1,lazy_journal_init=1,nodiscard"
    # meta_bg grows online without the 4 MB that resize_inode would reserve for it.
    # Nor the 2 MB of an orphan_file, nor what else Debian 13's mke2fs adds: any host makes the same disk.
    features = "meta_bg,^resize_inode,^orphan_file,^metadata_csum_seed"
    argv = ["mke2fs", "-q", "-t", "ext4", "-L", DATA_LABEL, "-m", "1", "-J", "size=16", "-E", lazy, "-O", features]
    run([*argv, path])


def is_kept(folder: Path) -> bool:
    """Tell whether a folder is what is left of a removed clone: its data disk, and nothing else."""
    try:
        return [path.name for path in folder.iterdir()] == [DATA_DISK]
    except (FileNotFoundError, NotADirectoryError):
        return False
