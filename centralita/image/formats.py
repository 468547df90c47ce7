"""The golden disk in the formats that are handed out. The disk is what counts; a format is how it travels."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from centralita.ground import cache
from centralita.ground.cache import digest_of
from centralita.ground.errors import CentralitaError
from centralita.ground.report import Step
from centralita.ground.run import run
from centralita.image.disk import GoldenDisk
from centralita.packages.fetch import sha256_of

ZSTD_LEVEL = 19


@dataclass(frozen=True)
class FormatFile:
    """One format's file in the cache. ``cached`` tells whether it had to be made."""

    format: str
    path: Path
    size_bytes: int
    sha256: str
    cached: bool


def _make(form: str, raw: Path, target: Path) -> None:
    if form == "qcow2":
        run(
            [
                "qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-c", "-m", "4",
                "-o", "compression_type=zstd,cluster_size=65536", raw, target,
            ]
        )  # fmt: skip
    elif form == "raw.zst":
        run(["zstd", "-q", f"-{ZSTD_LEVEL}", "-T0", "-o", target, raw])
    else:
        raise CentralitaError(f"format {form} is not known", hint="qcow2 or raw.zst")


def make_format(form: str, disk: GoldenDisk, step: Step) -> FormatFile:
    """A format of the golden disk, from the cache or made."""
    store = cache.Store()
    key = digest_of("format", form, disk.digest, ZSTD_LEVEL, 1)
    cached = store.get("format", key)
    if cached is None:
        step.note(form)
        with store.put("format", key) as result:
            target = result / f"disk.{form}"
            _make(form, disk.raw, target)
            target.chmod(0o444)
            entry = {"size_bytes": target.stat().st_size, "sha256": sha256_of(target)}
            (result / "record.json").write_text(json.dumps(entry))
    found = store.get("format", key)
    assert found is not None
    entry = json.loads((found / "record.json").read_text())
    path = found / f"disk.{form}"
    return FormatFile(form, path, entry["size_bytes"], entry["sha256"], cached is not None)
