"""Brings a release from a depot into output/, as if it had been built here. Nothing unverified is used."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from centralita.depot.client import Depot, fetch_verified
from centralita.depot.compose import GOLDEN, entry_for, load_golden
from centralita.depot.index import Listed
from centralita.depot.places import open_source
from centralita.depot.record import Release
from centralita.depot.upgrade import upgraded
from centralita.ground import cache, ledger, paths
from centralita.ground.errors import CentralitaError
from centralita.ground.report import get_reporter
from centralita.image.build import Golden
from centralita.image.record import FormatEntry, GoldenRecord, load_record, write_record
from centralita.packages.fetch import sha256_of


def pull(
    appliance: str, url: str, *, version: str = "", formats: Sequence[str] = ("qcow2",), key: str | None
) -> Golden:
    """Bring the newest release, or one of a version, into output/NAME/VERSION, and point NAME/latest at it.

    *key* is the publisher's minisign key; without it the one of the first visit holds. Raises CentralitaError.
    """
    with open_source(url) as reader:
        depot = Depot.open(reader, key)
        listed = depot.find(appliance, version)
        release = depot.release(listed)
        if release.untested:
            get_reporter().warn(f"{release.label} was released UNTESTED: nobody has shown that it works")
        with cache.lock(f"build-{appliance}"):
            return _bring(depot, listed, release, formats)


def _bring(depot: Depot, listed: Listed, release: Release, formats: Sequence[str]) -> Golden:
    store = downloads()
    record = _golden_record(depot, release, store)
    home = paths.output_dir() / release.appliance
    folder = home / release.version
    have = _present(folder, record)
    wanted = [file for form in formats if form not in have and (file := release.file(form)) is not None]
    have |= upgraded(depot, listed, release, wanted, store)
    for form in formats:
        file = release.file(form)
        if file is None:
            names = ", ".join(f.format for f in release.files)
            raise CentralitaError(f"{release.label} has no {form}", hint=f"it has {names}")
        if form in have:
            get_reporter().info(f"{file.name} is there already")
            continue
        part = store / file.sha256
        fetch_verified(depot.reader, entry_for(file), part, file.name)
        part.chmod(0o444)
        have[form] = part
    return place(record, have)


def downloads() -> Path:
    """Where downloads lie until they are whole, by their SHA-256: one that was cut off goes on there."""
    folder = paths.cache_dir() / "downloads"
    folder.mkdir(exist_ok=True)
    return folder


def _golden_record(depot: Depot, release: Release, store: Path) -> GoldenRecord:
    document = release.document(GOLDEN)
    if document is None:
        raise CentralitaError(f"{release.label} lacks the record of its golden image")
    part = store / document.sha256
    fetch_verified(depot.reader, entry_for(document), part, "golden record")
    try:
        record = load_golden(part.read_bytes())
    finally:
        part.unlink()
    if (record.golden_digest, record.full_version) != (release.golden_digest, release.version):
        raise CentralitaError(f"{release.label} comes with the record of another image")
    return record


def _present(folder: Path, record: GoldenRecord) -> dict[str, Path]:
    """The formats that output/ has of this very image."""
    try:
        old = load_record(folder / f"{record.appliance}.json")
    except CentralitaError:
        return {}
    if old.golden_digest != record.golden_digest:
        return {}
    wanted = {form.format: form.sha256 for form in record.formats}
    files = {form.format: folder / form.file for form in old.formats if wanted.get(form.format) == form.sha256}
    return {form: path for form, path in files.items() if path.is_file() and sha256_of(path) == wanted[form]}


def place(record: GoldenRecord, files: Mapping[str, Path]) -> Golden:
    """Put an image with these formats into output/NAME/VERSION, whole or not at all, and point NAME/latest at it.

    Files that are not in that folder yet are moved there.
    """
    home = paths.output_dir() / record.appliance
    home.mkdir(parents=True, exist_ok=True)
    folder = home / record.full_version
    record = record.model_copy(update={"formats": tuple(_entries(record, files))})
    with ledger.default().tempdir(".new-", parent=home, mode=0o755) as new:
        for entry in record.formats:
            source = files[entry.format]
            if source.parent == folder:
                os.link(source, new / entry.file)
            else:
                _move(source, new / entry.file)
        write_record(record, new / f"{record.appliance}.json")
        old = home / f".old-{record.full_version}-{os.getpid()}"
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
        if old.exists():
            with ledger.default().path(old):
                pass
    link = home / f".latest-{os.getpid()}"
    link.unlink(missing_ok=True)
    link.symlink_to(record.full_version)
    link.rename(home / "latest")
    return Golden(folder, record)


def _entries(record: GoldenRecord, files: Mapping[str, Path]) -> list[FormatEntry]:
    return [entry for entry in record.formats if entry.format in files]


def _move(source: Path, target: Path) -> None:
    try:
        source.rename(target)
    except OSError:  # another file system
        with source.open("rb") as stream, target.open("wb") as out:
            while block := stream.read(1 << 20):
                out.write(block)
        target.chmod(0o444)
        source.unlink()
