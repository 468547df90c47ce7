"""The golden disk in the two formats that a build makes itself; the floor above makes all others."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from centralita.ground import cache
from centralita.ground.cache import digest_of
from centralita.ground.report import Step
from centralita.ground.run import run
from centralita.image.disk import GoldenDisk
from centralita.packages.fetch import sha256_of
from centralita.packages.tools import ToolsTree, tools_tree

ZSTD_LEVEL = 19
#: What a build itself makes; all else is made of a finished image, by the floor above.
IMAGE_FORMATS = ("qcow2", "raw.zst")


@dataclass(frozen=True)
class FormatFile:
    """One format's file in the cache. ``cached`` tells whether it had to be made."""

    format: str
    path: Path
    size_bytes: int
    sha256: str
    cached: bool


def write_qcow2(raw: Path, target: Path, tools: ToolsTree) -> None:
    """Write a raw disk as a qcow2 with zstd clusters (QEMU 5.1 and later)."""
    run(
        [
            *tools.command("qemu-img"), "convert", "-f", "raw", "-O", "qcow2", "-c", "-m", "4",
            "-o", "compression_type=zstd,cluster_size=65536", raw, target,
        ]
    )  # fmt: skip


def write_zst(source: Path, target: Path, tools: ToolsTree, *, level: int = ZSTD_LEVEL) -> None:
    """Compress a file; its holes become holes again when `zstd -d` writes a file."""
    # A fixed number of workers: the bytes must not depend on the host's processors.
    run([*tools.command("zstd"), "-q", f"-{level}", "-T2", "-o", target, source])


_WRITERS: dict[str, Callable[[Path, Path, ToolsTree], None]] = {"qcow2": write_qcow2, "raw.zst": write_zst}


def make_format(form: str, disk: GoldenDisk, step: Step) -> FormatFile:
    """One of IMAGE_FORMATS of the golden disk, from the cache or made."""
    store = cache.Store()
    tools = tools_tree("formats")
    key = digest_of("format", form, disk.digest, ZSTD_LEVEL, tools.digest, 2)
    cached = store.get("format", key)
    if cached is None:
        step.note(form)
        with store.put("format", key) as result:
            target = result / f"disk.{form}"
            _WRITERS[form](disk.raw, target, tools)
            target.chmod(0o444)
            entry = {"size_bytes": target.stat().st_size, "sha256": sha256_of(target)}
            (result / "record.json").write_text(json.dumps(entry))
    found = store.get("format", key)
    assert found is not None
    entry = json.loads((found / "record.json").read_text())
    path = found / f"disk.{form}"
    return FormatFile(form, path, entry["size_bytes"], entry["sha256"], cached is not None)
