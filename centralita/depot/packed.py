"""A raw disk without its zeros, in one file: what deltas are made of.

`zstd --patch-from` holds both files in memory. A disk of 1 GiB with 190 MB in it would take 3.2 GiB to compare and
2 GiB to apply; packed it takes 0.6 and 0.4, and time in the same measure.

The file is the disk's blocks of 4 KiB that are not all zeros, then a pair of numbers (first block, blocks) for each run
of them, then a footer. All numbers are little-endian. It follows from the disk's bytes alone, not from its holes.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

from centralita.ground.errors import CentralitaError

BLOCK_BYTES = 4096
MAGIC = b"centralita-pack1"
_RUN = struct.Struct("<II")
# Magic, the disk's size in bytes, the number of runs.
_FOOTER = struct.Struct("<16sQQ")
_ZEROS = bytes(BLOCK_BYTES)


def pack(raw: Path, target: Path) -> int:
    """Pack a raw disk into *target*, and return that file's size in bytes."""
    runs: list[tuple[int, int]] = []
    with raw.open("rb") as source, target.open("wb") as out:
        size = os.fstat(source.fileno()).st_size
        position = 0
        while position < size:
            try:
                position = os.lseek(source.fileno(), position, os.SEEK_DATA)
            except OSError:  # no data behind this position
                break
            end = os.lseek(source.fileno(), position, os.SEEK_HOLE)
            position -= position % BLOCK_BYTES
            source.seek(position)
            while position < end:
                block = source.read(BLOCK_BYTES).ljust(BLOCK_BYTES, b"\0")
                if block != _ZEROS:
                    number = position // BLOCK_BYTES
                    if runs and sum(runs[-1]) == number:
                        runs[-1] = (runs[-1][0], runs[-1][1] + 1)
                    else:
                        runs.append((number, 1))
                    out.write(block)
                position += BLOCK_BYTES
        for run in runs:
            out.write(_RUN.pack(*run))
        out.write(_FOOTER.pack(MAGIC, size, len(runs)))
        return out.tell()


def unpack(packed: Path, target: Path) -> None:
    """Write the raw disk, zeros as holes. Raises CentralitaError for what is no packed disk."""
    with packed.open("rb") as source, target.open("wb") as out:
        try:
            total = source.seek(-_FOOTER.size, os.SEEK_END)
            magic, size, count = _FOOTER.unpack(source.read())
            source.seek(total - count * _RUN.size)
            runs = list(_RUN.iter_unpack(source.read(count * _RUN.size)))
        except (OSError, ValueError, struct.error) as error:
            raise CentralitaError("not a packed disk: it is too short") from error
        blocks = sum(length for _first, length in runs)
        if magic != MAGIC or blocks * BLOCK_BYTES + count * _RUN.size != total:
            raise CentralitaError("not a packed disk: its parts do not fit")
        source.seek(0)
        for first, length in runs:
            out.seek(first * BLOCK_BYTES)
            for _ in range(length):
                out.write(source.read(BLOCK_BYTES))
        out.truncate(size)
