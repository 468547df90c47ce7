"""A golden image with all the formats that its appliance declares, in output/."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from centralita.formats.catalogue import expand
from centralita.formats.make import make
from centralita.ground import cache
from centralita.ground.report import get_reporter
from centralita.image.build import Golden, loaded
from centralita.image.build import build as build_image
from centralita.image.record import FormatEntry, load_record, write_record


def build(name: str, *, mirror: str | None = None, locked: bool = False) -> Golden:
    """Build the appliance *name* and every format that it declares; as `centralita.image.build.build` otherwise."""
    golden = build_image(name, mirror=mirror, locked=locked)
    return add_formats(golden, loaded(name).formats)


def add_formats(golden: Golden, names: tuple[str, ...]) -> Golden:
    """Put formats beside a golden image, each whole or not at all, and into its record."""
    there = {entry.format for entry in golden.record.formats}
    wanted = tuple(name for name in expand(names) if name not in there)
    if not wanted:
        return golden
    reporter = get_reporter()
    with reporter.step("more formats", total=len(wanted)) as step:
        files = make(wanted, golden, step)
        if all(file.cached for file in files):
            step.cached()
    record_path = golden.folder / f"{golden.record.appliance}.json"
    with cache.lock(f"build-{golden.record.appliance}"):
        for file in files:
            _place(file.path, golden.folder / file.file)
        entries = [FormatEntry(format=f.format, file=f.file, size_bytes=f.size_bytes, sha256=f.sha256) for f in files]
        # Another run may have added some meanwhile.
        before = load_record(record_path)
        kept = tuple(entry for entry in before.formats if entry.format not in wanted)
        record = before.model_copy(update={"formats": (*kept, *entries)})
        write_record(record, record_path)
    reporter.summary("more formats", {file.format: f"{file.file}, {file.size_bytes / 1e6:.1f} MB" for file in files})
    return Golden(golden.folder, record)


def _place(source: Path, target: Path) -> None:
    """Link a file of the cache into output/; a copy where that is another file system."""
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    part.unlink(missing_ok=True)
    try:
        os.link(source, part)
    except OSError:
        shutil.copyfile(source, part)
        part.chmod(0o444)
    part.rename(target)
