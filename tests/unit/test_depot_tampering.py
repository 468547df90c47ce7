"""Whatever is changed in a depot is refused, each kind with words of its own, by those who pull and by depot.verify."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from centralita.depot.client import Depot
from centralita.depot.index import now, read_index
from centralita.depot.keys import Keys, make_keys
from centralita.depot.pull import pull
from centralita.depot.reader import FolderReader
from centralita.depot.verify import verify_folder
from centralita.ground.errors import CentralitaError
from tests.depot import NAME, image, publish

pytestmark = pytest.mark.unit


class Victim:
    """A published depot with two releases, and hands to change it with."""

    def __init__(self, folder: Path, keys: Keys, home: Path) -> None:
        self.folder, self.keys, self.home = folder, keys, home
        self.first, self.second = (self._built(letter) for letter in (b"one", b"two"))

    def _built(self, content: bytes) -> Path:
        digest = hashlib.sha256(content * 1000).hexdigest()
        return next(self.folder.glob(f"releases/{NAME}/*_{digest[:12]}"))

    @property
    def qcow2(self) -> Path:
        return self.second / f"{NAME}.qcow2"

    @property
    def record(self) -> Path:
        return next(self.second.glob("release-*.json"))

    def index(self) -> Path:
        serial = read_index((self.folder / "index.json").read_bytes()).serial
        return self.folder / f"index/{serial}.json"

    def write_index(self, data: bytes, keys: Keys, name: str = "") -> None:
        """Put an index into its place, signed by somebody."""
        path = read_index(data).path
        (self.folder / "index.json").write_bytes(data)
        (self.folder / path).write_bytes(data)
        (self.folder / f"{path}.minisig").write_bytes(keys.sign_minisign(data, name or path, now()))
        (self.folder / f"{path}.asc").write_bytes(keys.sign_openpgp(data, now()))

    def strangers_keys(self) -> Keys:
        return make_keys(self.home / "strangers")


@pytest.fixture
def victim(keys: Keys, home: Path) -> Victim:
    """A depot of two releases, which a client has seen."""
    folder = home / "depot"
    publish(image(home / "built", b"one" * 1000), folder)
    publish(image(home / "built", b"two" * 1000, version="1.0.1"), folder)
    Depot.open(FolderReader(folder), keys.minisign)
    return Victim(folder, keys, home)


def changed_byte(v: Victim) -> None:
    data = bytearray(v.qcow2.read_bytes())
    data[100] ^= 1
    v.qcow2.write_bytes(data)


def swapped_files(v: Victim) -> None:
    other = v.first / v.qcow2.name
    one, two = v.qcow2.read_bytes(), other.read_bytes()
    v.qcow2.write_bytes(two)
    other.write_bytes(one)


def swapped_formats(v: Victim) -> None:
    """One record's file names: the raw.zst becomes the qcow2, which has the same number of bytes here."""
    record = v.record
    text = record.read_text()
    swapped = text.replace('"format": "qcow2"', '"format": "?"').replace('"format": "raw.zst"', '"format": "qcow2"')
    record.write_text(swapped.replace('"format": "?"', '"format": "raw.zst"'))


def truncated(v: Victim) -> None:
    os.truncate(v.qcow2, 700)


def too_long(v: Victim) -> None:
    with v.qcow2.open("ab") as stream:
        stream.write(b"more")


def edited_record(v: Victim) -> None:
    v.record.write_text(v.record.read_text().replace('"untested": true', '"untested": false'))


def record_of_another_key(v: Victim) -> None:
    edited_record(v)
    path = v.record.relative_to(v.folder).as_posix()
    (v.folder / f"{path}.minisig").write_bytes(v.strangers_keys().sign_minisign(v.record.read_bytes(), path, now()))


def no_record_signature(v: Victim) -> None:
    v.record.with_name(f"{v.record.name}.minisig").unlink()


def another_release_s_record(v: Victim) -> None:
    other = next(v.first.glob("release-*.json"))
    for suffix in ("", ".minisig", ".asc"):
        shutil.copyfile(f"{other}{suffix}", f"{v.record}{suffix}")


def rolled_back(v: Victim) -> None:
    shutil.copyfile(v.folder / "index/1.json", v.folder / "index.json")


def expired(v: Victim) -> None:
    data = json.loads(v.index().read_text())
    data["expires"] = (now() - timedelta(days=1)).isoformat()
    v.write_index((json.dumps(data, indent=1) + "\n").encode(), v.keys)


def of_another_depot(v: Victim) -> None:
    other = v.home / "other"
    for content in (b"x", b"y", b"z"):
        publish(image(v.home / "built", content * 1000), other, name="another")
    shutil.rmtree(v.folder)
    other.rename(v.folder)


def edited_index(v: Victim) -> None:
    text = v.index().read_text().replace('"untested": true', '"untested": false')
    for path in (v.index(), v.folder / "index.json"):
        path.write_text(text)


def index_of_another_key(v: Victim) -> None:
    v.write_index(v.index().read_bytes(), v.strangers_keys())


def index_without_signature(v: Victim) -> None:
    Path(f"{v.index()}.minisig").unlink()


def index_with_a_signature_of_another_file(v: Victim) -> None:
    v.write_index(v.index().read_bytes(), v.keys, "index/1.json")


def no_index(v: Victim) -> None:
    (v.folder / "index.json").unlink()


def link_out(v: Victim) -> None:
    outside = v.home / "outside"
    shutil.copyfile(v.qcow2, outside)
    v.qcow2.unlink()
    v.qcow2.symlink_to(outside)


def missing_file(v: Victim) -> None:
    v.qcow2.unlink()


def edited_golden_record(v: Victim) -> None:
    golden = next(v.second.glob("golden-*.json"))
    golden.write_text(golden.read_text().replace('"memory_mib": 512', '"memory_mib": 513'))


Change = Callable[[Victim], None]
#: What is done, what pull says, what depot.verify says.
KINDS: list[tuple[Change, str, str]] = [
    (changed_byte, r"pbx-test.qcow2 is not what was signed: its SHA-256 is", r"1.0.1_\w+/pbx-test.qcow2 is not what"),
    (swapped_files, r"pbx-test.qcow2 is not what was signed: its SHA-256 is", r"1.0.0_\w+/pbx-test.qcow2 is not what"),
    (swapped_formats, r"the record of .* is not what was signed: its signature", r"the record of .* is not what"),
    (truncated, r"ended after 700 of 3004 bytes: the download was cut off", r"pbx-test.qcow2 has 700 bytes, not 3004"),
    (too_long, r"is longer than the 3004 bytes of its record", r"pbx-test.qcow2 has 3008 bytes, not 3004"),
    (edited_record, r"the record of .* is not what was signed: its signature", r"the record of .* is not what"),
    (record_of_another_key, r"the record of .* is signed by another key", r"the record of .* is signed by another key"),
    (no_record_signature, r"the record of .* has no signature", r"the record of .* has no signature"),
    (another_release_s_record, r"is one of another release", r"is one of another release"),
    (rolled_back, r"rolled back: number 1, but 2 was seen before", r"rolled back: number 1, but 2 was seen before"),
    (expired, r"index.json expired at", r"index.json expired at"),
    (of_another_depot, r"shows the index of another depot: another, not test", r"the index of another depot"),
    (edited_index, r"the depot's index.json is not what was signed", r"the depot's index.json is not what was signed"),
    (index_of_another_key, r"the depot's index.json is signed by another key", r"index.json is signed by another key"),
    (index_without_signature, r"the depot's index.json has no signature", r"index.json has no signature"),
    (index_with_a_signature_of_another_file, r"signature of index.json is one of another file", r"of another file"),
    (no_index, r"is no depot: it has no index.json", r"is no depot"),
    (link_out, r"pbx-test.qcow2 is a link or cannot be read", r"pbx-test.qcow2 is a link, to .*: a depot has none"),
    (missing_file, r"pbx-test.qcow2 is not in the depot", r"pbx-test.qcow2 is missing"),
    (edited_golden_record, r"golden record is not what was signed", r"golden-\w+.json is not what was signed"),
]


@pytest.mark.parametrize(("change", "pulled", "verified"), KINDS, ids=[kind[0].__name__ for kind in KINDS])
def test_is_refused(victim: Victim, change: Change, pulled: str, verified: str) -> None:
    change(victim)
    with pytest.raises(CentralitaError, match=pulled):
        pull(NAME, str(victim.folder), key=None)
    assert not (victim.home / "output").exists() or not list((victim.home / "output").rglob("*.qcow2"))
    with pytest.raises(CentralitaError, match=verified):
        verify_folder(victim.folder)


def test_what_only_verify_sees_is_named(victim: Victim) -> None:
    """Files that no client reads are found where the whole is looked through."""
    extra = victim.second / "extra.qcow2"
    extra.write_bytes(b"QFI\xfb")
    with pytest.raises(CentralitaError, match=r"extra.qcow2 belongs to no release and no index: nobody signed for it"):
        verify_folder(victim.folder)
    extra.unlink()
    signature = Path(f"{victim.record}.asc")
    good = signature.read_bytes()
    signature.write_bytes(victim.strangers_keys().sign_openpgp(victim.record.read_bytes(), now()))
    with pytest.raises(CentralitaError, match=r"its OpenPGP signature does not fit"):
        verify_folder(victim.folder)
    signature.write_bytes(good)
    verify_folder(victim.folder)


def test_a_new_key_is_not_taken_for_the_old_one(victim: Victim) -> None:
    """A depot made anew with keys of its own does not pass for the one that was seen, but it does with --key."""
    stranger = victim.strangers_keys()
    shutil.rmtree(victim.folder / "keys")
    for path, data in (("minisign.pub", stranger.public_minisign()), ("openpgp.asc", stranger.public_openpgp())):
        (victim.folder / "keys").mkdir(exist_ok=True)
        (victim.folder / "keys" / path).write_bytes(data)
    victim.write_index(victim.index().read_bytes(), stranger)
    with pytest.raises(CentralitaError, match="signed by another key"):
        Depot.open(FolderReader(victim.folder))
    assert Depot.open(FolderReader(victim.folder), stranger.minisign).index.depot == "test"
