"""Verifies a depot before anything of it is used: the index by its key, records by the index, files by their record."""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from pydantic import ValidationError

from centralita.depot.index import INDEX, LIMIT, Entry, Index, Listed, now, read_index
from centralita.depot.keys import TELL, key_id, read_minisign_key, verify_minisign
from centralita.depot.reader import Reader
from centralita.depot.record import Frozen, Release, version_key
from centralita.ground import paths
from centralita.ground.errors import CentralitaError
from centralita.ground.report import get_reporter

PUBLIC_KEY = "keys/minisign.pub"


class Pin(Frozen):
    """What is remembered of a depot between visits: its key and name, and the highest serial number seen."""

    url: str
    key: str
    depot: str
    serial: int


def read_key(key: str) -> str:
    """A minisign public key given as its line or as a file's path. Raises CentralitaError."""
    try:
        return read_minisign_key(key)
    except ValueError:
        pass
    try:
        return read_minisign_key(Path(key).read_text())
    except (OSError, ValueError) as error:
        raise CentralitaError(
            f"--key {key} is neither a minisign public key nor a file that holds one",
            hint="`invoke keys --export DIR` on the publisher's side writes minisign.pub",
        ) from error


def _pin_path(url: str) -> Path:
    folder = paths.state_dir() / "depots"
    folder.mkdir(exist_ok=True, mode=0o700)
    return folder / f"{hashlib.sha256(url.encode()).hexdigest()[:24]}.json"


def load_pin(url: str) -> Pin | None:
    """What is remembered of the depot at an address. Raises CentralitaError where that cannot be read any more."""
    path = _pin_path(url)
    try:
        return Pin.model_validate(json.loads(path.read_text()))
    except FileNotFoundError:
        return None
    except (ValueError, ValidationError) as error:
        raise CentralitaError(
            f"{path} cannot be read", hint="remove it to meet the depot as for the first time"
        ) from error


@contextmanager
def _pins() -> Iterator[None]:
    with (paths.state_dir() / "depots.lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _remember(pin: Pin) -> None:
    path = _pin_path(pin.url)
    with _pins():
        before = load_pin(pin.url)
        if before is not None and before.key == pin.key and before.serial > pin.serial:
            return
        part = path.with_suffix(".part")
        part.write_text(pin.model_dump_json(indent=1) + "\n")
        part.rename(path)


def verified_index(data: bytes, signature: bytes | None, key: str, name: str = INDEX) -> Index:
    """The index in *data* if it is signed by *key*. Raises CentralitaError."""
    if signature is None:
        raise CentralitaError(f"the depot's {name} has no signature", hint=TELL)
    comment = verify_minisign(data, signature, key, f"the depot's {name}")
    index = read_index(data, name)
    if f"file:{index.path}" not in comment.split("\t"):
        raise CentralitaError(f"the signature of {name} is one of another file: {comment}", hint=TELL)
    return index


class Depot:
    """A depot whose index is verified."""

    def __init__(self, reader: Reader, index: Index, key: str) -> None:
        self.reader, self.index, self.key = reader, index, key

    @classmethod
    def open(cls, reader: Reader, key: str | None = None, *, moment: datetime | None = None) -> Depot:
        """Read and verify the index; *key* is the publisher's minisign key.

        Without it the key of the first visit holds, and at the first visit the depot's own, which is said aloud.
        Raises CentralitaError for an index that is missing, unsigned, altered, another depot's, rolled back or expired.
        """
        pin = load_pin(reader.url)
        data = reader.read(INDEX, LIMIT)
        if data is None:
            raise CentralitaError(f"{reader.url} is no depot: it has no {INDEX}", hint="is the address right?")
        first = key is None and pin is None
        if key is None:
            key = pin.key if pin is not None else cls._offered(reader)
        claimed = read_index(data)
        signature = reader.read(f"{claimed.path}.minisig", LIMIT)
        index = verified_index(data, signature, key)
        if pin is not None and pin.key == key:
            _no_step_back(index, pin)
        if index.expires <= (moment or now()):
            raise CentralitaError(
                f"the depot's {INDEX} expired at {index.expires:%Y-%m-%d %H:%M} UTC: newer ones may be kept from you",
                hint="its publisher renews it with `invoke depot.refresh`; also look at this host's clock",
            )
        if first:
            get_reporter().warn(
                f"first use of {reader.url}: trusting its key {key_id(key)} from now on "
                f"(compare it with the publisher's: minisign {key})"
            )
        _remember(Pin(url=reader.url, key=key, depot=index.depot, serial=index.serial))
        return cls(reader, index, key)

    @staticmethod
    def _offered(reader: Reader) -> str:
        data = reader.read(PUBLIC_KEY, 4096)
        try:
            return read_minisign_key((data or b"").decode(errors="replace"))
        except ValueError as error:
            raise CentralitaError(
                f"the depot has no {PUBLIC_KEY}", hint="give the publisher's key: --key FILE"
            ) from error

    def find(self, appliance: str, version: str = "") -> Listed:
        """The release of an appliance with a version (whole, or without its build), else its newest one."""
        found = [listed for listed in self.index.releases if listed.appliance == appliance]
        if not found:
            names = sorted({listed.appliance for listed in self.index.releases})
            raise CentralitaError(f"the depot has no {appliance}", hint=f"it has {', '.join(names) or 'nothing'}")
        fitting = [f for f in found if not version or version in (f.version, f.version.partition("+")[0])]
        if not fitting:
            versions = ", ".join(f.version for f in found)
            raise CentralitaError(f"the depot has no {appliance} {version}", hint=f"it has {versions}")
        return max(fitting, key=lambda f: (version_key(f.version), f.published))

    def release(self, listed: Listed) -> Release:
        """The record of a release, verified by its own signature and by the index. Raises CentralitaError."""
        data = self.reader.read(listed.record.path, LIMIT)
        if data is None:
            raise CentralitaError(f"the record of {listed.label} is missing: {listed.record.path}", hint=TELL)
        signature = self.reader.read(f"{listed.record.path}.minisig", LIMIT)
        return verified_record(data, signature, self.key, listed)


def _no_step_back(index: Index, pin: Pin) -> None:
    if index.depot != pin.depot:
        raise CentralitaError(
            f"{pin.url} shows the index of another depot: {index.depot}, not {pin.depot}",
            hint=f"if it was renamed on purpose: remove {_pin_path(pin.url)}",
        )
    if index.serial < pin.serial:
        raise CentralitaError(
            f"the depot's {INDEX} was rolled back: number {index.serial}, but {pin.serial} was seen before", hint=TELL
        )


def verified_record(data: bytes, signature: bytes | None, key: str, listed: Listed) -> Release:
    """The record in *data* if it is signed by *key*, and the one that the index lists. Raises CentralitaError."""
    what = f"the record of {listed.label}"
    if signature is None:
        raise CentralitaError(f"{what} has no signature", hint=TELL)
    comment = verify_minisign(data, signature, key, what)
    if f"file:{listed.record.path}" not in comment.split("\t"):
        raise CentralitaError(f"{what} is one of another release: {comment}", hint=TELL)
    check_bytes(data, listed.record, what)
    try:
        release = Release.model_validate(json.loads(data))
    except (ValueError, ValidationError) as error:
        raise CentralitaError(f"{what} is not understood", hint="a newer Centralita may do") from error
    if (release.appliance, release.version, release.golden_digest) != (
        listed.appliance, listed.version, listed.golden_digest,
    ):  # fmt: skip
        raise CentralitaError(f"{what} is one of another release: {release.label}", hint=TELL)
    return release


def check_bytes(data: bytes, entry: Entry, what: str) -> None:
    """Raises CentralitaError where bytes are not those of an entry."""
    if len(data) != entry.size_bytes:
        raise CentralitaError(f"{what} has {len(data)} bytes, not {entry.size_bytes}", hint=TELL)
    if hashlib.sha256(data).hexdigest() != entry.sha256:
        raise CentralitaError(f"{what} is not the one that the index names", hint=TELL)


def fetch_verified(reader: Reader, entry: Entry, target: Path, what: str) -> None:
    """Bring a file into *target* and check it; a part that is there is gone on with.

    Raises CentralitaError; a file that is whole but not the right one is removed.
    """
    with get_reporter().step(f"download {what}", total=entry.size_bytes) as step:
        reader.fetch(entry.path, target, entry.size_bytes, step.advance)
        with target.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
        if found != entry.sha256:
            target.unlink()
            raise CentralitaError(
                f"{what} is not what was signed: its SHA-256 is {found}, not {entry.sha256}", hint=TELL
            )
