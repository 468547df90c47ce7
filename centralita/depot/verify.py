"""Checks a whole depot, in a folder or elsewhere: that every byte is as signed, and that nothing else is there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from centralita.depot.client import PUBLIC_KEY, Depot, check_bytes, load_pin, verified_index, verified_record
from centralita.depot.compose import entry_of
from centralita.depot.index import INDEX, LIMIT, Entry, Index, Listed, numbered
from centralita.depot.keys import TELL, key_id, load_keys, signer, verify_minisign, verify_openpgp
from centralita.depot.place import is_as, walk
from centralita.depot.publish import JOURNAL, OPENPGP_KEY, SIGNATURES, entries_of
from centralita.depot.reader import FolderReader, Reader
from centralita.depot.record import Release
from centralita.ground import ledger, paths
from centralita.ground.errors import CentralitaError
from centralita.ground.report import Step, get_reporter

_OLD_SIGNATURE = re.compile(r"(?:index/(\d+)|next/[0-9a-f]{12})\.json\.(minisig|asc)")


@dataclass(frozen=True)
class Verified:
    """What was found in order."""

    index: Index
    releases: tuple[Release, ...]
    files: int
    size_bytes: int


@dataclass
class _Check:
    """What may be at each path: what the served index names must be there, what its neighbours name may."""

    reader: Reader
    depot: Depot
    openpgp: bytes
    entries: dict[str, list[Entry]] = field(default_factory=dict)
    required: set[str] = field(default_factory=set)

    def add(self, entry: Entry, required: bool) -> None:
        self.entries.setdefault(entry.path, []).append(entry)
        if required:
            self.required.add(entry.path)

    def index(self, index: Index, *, required: bool) -> list[Release]:
        """Admit everything that an index names, and return the releases whose records are there."""
        data = index.as_bytes()
        if required:
            self.add(entry_of(INDEX, data), required)
        self.add(entry_of(index.path, data), required)
        for suffix in SIGNATURES:
            self._signature(index.path, data, suffix, required)
        for entry in index.others:
            self.add(entry, required)
        return [r for listed in index.releases if (r := self._release(listed, required)) is not None]

    def _signature(self, path: str, data: bytes, suffix: str, required: bool) -> None:
        signature = self.reader.read(path + suffix, LIMIT)
        if signature is None:
            if required:
                raise CentralitaError(f"{path} has no signature {path}{suffix}", hint=TELL)
            return
        try:
            if suffix == ".asc":
                verify_openpgp(data, signature, self.openpgp, path)
            elif not required:  # where it is, the index or the record was read by it
                verify_minisign(data, signature, self.depot.key, path)
        except CentralitaError:
            if required:
                raise
            return  # of another index with this number, which a killed publish was to make; or nobody's
        self.add(entry_of(path + suffix, signature), required)

    def _release(self, listed: Listed, required: bool) -> Release | None:
        for entry in (listed.record, *listed.signatures):
            self.add(entry, required)
        path = listed.record.path
        record, signature = self.reader.read(path, LIMIT), self.reader.read(f"{path}.minisig", LIMIT)
        if record is None:
            if required:
                raise CentralitaError(f"the record of {listed.label} is missing: {path}", hint=TELL)
            return None
        if signature is None and not required:
            return None
        release = verified_record(record, signature, self.depot.key, listed)
        self._signature(path, record, ".asc", required)
        for entry in entries_of(listed, release):
            self.add(entry, required)
        return release

    def file(self, folder: Path, path: Path, step: Step) -> None:
        """Check the bytes of one file in a folder."""
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            raise CentralitaError(f"{name} is a link, to {path.readlink()}: a depot has none", hint=TELL)
        if not path.is_file():
            raise CentralitaError(f"{name} is no plain file", hint=TELL)
        size = path.stat().st_size
        step.advance(size)
        entries = self.admitted(name)
        if not entries:
            return
        if size not in [entry.size_bytes for entry in entries]:
            raise CentralitaError(f"{name} has {size} bytes, not {entries[0].size_bytes}", hint=TELL)
        if not any(is_as(path, entry) for entry in entries):
            raise CentralitaError(f"{name} is not what was signed: its SHA-256 is another", hint=TELL)

    def far(self, name: str, part: Path, step: Step) -> int:
        """Bring a file that lies elsewhere into *part*, check its bytes, and return how many they were."""
        entries = self.admitted(name)
        for entry in entries:
            part.unlink(missing_ok=True)
            try:
                self.reader.fetch(name, part, entry.size_bytes, step.advance)
            except CentralitaError:
                if entry is entries[-1]:
                    raise
                continue
            if is_as(part, entry):
                return entry.size_bytes
        if entries:
            raise CentralitaError(f"{name} is not what was signed: its SHA-256 is another", hint=TELL)
        return 0

    def admitted(self, name: str) -> list[Entry]:
        """What may be at a path; nothing for what a killed publish has left. Raises CentralitaError for a stranger."""
        entries = self.entries.get(name, [])
        if not entries and not self._left_over(name):
            raise CentralitaError(f"{name} belongs to no release and no index: nobody signed for it", hint=TELL)
        return entries

    def _left_over(self, name: str) -> bool:
        """Whether it is the signature of an index that a killed publish was just writing, or removing."""
        match = _OLD_SIGNATURE.fullmatch(name)
        if match is None or (match[1] and int(match[1]) >= self.depot.index.serial):
            return False
        data = self.reader.read(name, 4096) or b""
        if match[2] == "asc":
            return data.startswith(b"-----BEGIN PGP SIGNATURE-----")
        try:
            return signer(data) == key_id(self.depot.key)
        except ValueError:
            return False


def own_key(reader: Reader) -> str | None:
    """Our own minisign key where a depot that was never visited offers that; None else."""
    ours = load_keys() if load_pin(reader.url) is None else None
    return ours.minisign if ours is not None and reader.read(PUBLIC_KEY, 4096) == ours.public_minisign() else None


def verify_folder(folder: Path, key: str | None = None) -> Verified:
    """Check a depot in a folder; *key* is the minisign key, else the one known for it, ours, or the depot's own.

    Raises CentralitaError at the first file that is not as signed, and names it.
    """
    folder = folder.absolute()
    journals = [f"{JOURNAL}/{path.name}" for path in sorted((folder / JOURNAL).glob("*.json"))]
    check, releases = _prepared(FolderReader(folder), journals, key)
    # The releases' own files first: an index may have the same bytes under a name that tells nobody anything.
    files = sorted(walk(folder), key=lambda path: not path.is_relative_to(folder / "releases"))
    total = sum(path.lstat().st_size for path in files)
    with get_reporter().step("files", total=total) as step:
        for path in files:
            check.file(folder, path, step)
    for name in sorted(check.required):
        if not (folder / name).is_file():
            raise CentralitaError(f"{name} is missing", hint=TELL)
    return Verified(check.depot.index, releases, len(files), total)


def verify_far(reader: Reader, listing: Sequence[str] | None, key: str | None = None) -> Verified:
    """Check a depot that lies elsewhere: every byte of it is downloaded, and nothing kept.

    *listing* are the paths of all its files, None where nobody can tell (a web server): strangers are not found then.
    Raises CentralitaError at the first file that is not as signed, and names it.
    """
    names = list(listing or ())
    journals = [name for name in names if name.startswith(f"{JOURNAL}/") and name.endswith(".json")]
    check, releases = _prepared(reader, journals, key)
    for name in sorted(check.required - set(names)) if listing is not None else ():
        raise CentralitaError(f"{name} is missing", hint=TELL)
    names = sorted(names or check.required, key=lambda name: (not name.startswith("releases/"), name))
    total, done = sum(entries[0].size_bytes for name in names if (entries := check.entries.get(name))), 0
    with (
        ledger.default().tempdir("verify-", paths.cache_dir()) as work,
        get_reporter().step("files", total=total) as step,
    ):
        for name in names:
            done += check.far(name, work / "part", step)
    return Verified(check.depot.index, releases, len(names), done)


def _prepared(reader: Reader, journals: Sequence[str], key: str | None) -> tuple[_Check, tuple[Release, ...]]:
    """What may be where in a depot; and its releases."""
    depot = Depot.open(reader, key or own_key(reader))
    entry = next((entry for entry in depot.index.others if entry.path == OPENPGP_KEY), None)
    openpgp = reader.read(OPENPGP_KEY, LIMIT)
    if openpgp is None or entry is None:
        raise CentralitaError(f"{OPENPGP_KEY} is missing", hint=TELL)
    check_bytes(openpgp, entry, OPENPGP_KEY)
    check = _Check(reader, depot, openpgp)
    releases = check.index(depot.index, required=True)
    for index in _neighbours(reader, journals, depot, check):
        check.index(index, required=False)
    return check, tuple(releases)


def _neighbours(reader: Reader, journals: Sequence[str], depot: Depot, check: _Check) -> Iterator[Index]:
    """The index before this one, and those that a killed publish was about to make: signed, or not believed."""
    before = numbered(depot.index.serial - 1)
    for name in (before, *journals):
        data = reader.read(name, LIMIT)
        if data is None:
            continue
        signature = reader.read(f"{name}.minisig", LIMIT)
        index = verified_index(data, signature, depot.key, name)
        if index.depot != depot.index.depot:
            raise CentralitaError(f"{name} is the index of another depot, {index.depot}", hint=TELL)
        if name != before:
            check.add(entry_of(name, data), False)
            check.add(entry_of(f"{name}.minisig", signature or b""), False)
        yield index
