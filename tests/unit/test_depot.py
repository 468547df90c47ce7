"""The depot with images that stand for golden ones: keys, publish, verify, pull, and what each of them refuses."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from centralita.depot.client import load_pin
from centralita.depot.keys import Keys, make_keys
from centralita.depot.pull import pull
from centralita.depot.verify import verify_folder
from centralita.ground.errors import CentralitaError
from tests.depot import NAME, image, publish

pytestmark = pytest.mark.unit


def test_keys_are_private_and_stay(home: Path) -> None:
    keys = make_keys()
    assert keys.folder.stat().st_mode & 0o777 == 0o700
    assert (keys.folder / "minisign.key").stat().st_mode & 0o077 == 0
    assert make_keys() == keys
    agents = subprocess.run(["pgrep", "-f", str(keys.folder)], capture_output=True, text=True, check=False).stdout
    assert agents == ""


def test_publish_is_as_signed_and_real_tools_say_so(keys: Keys, home: Path) -> None:
    depot = home / "depot"
    publish(image(home / "built", b"one" * 1000), depot)
    found = verify_folder(depot)
    assert [release.untested for release in found.releases] == [True]
    record = depot / found.index.releases[0].record.path
    subprocess.run(["minisign", "-Vm", record, "-p", depot / "keys/minisign.pub"], check=True)
    subprocess.run(["gpg", "--dearmor", "-o", home / "key.gpg", depot / "keys/openpgp.asc"], check=True)
    subprocess.run(["gpgv", "--keyring", home / "key.gpg", f"{record}.asc", record], check=True)


def test_two_publishes_are_the_same_bytes(keys: Keys, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1790000000")
    golden = image(home / "built", b"one" * 1000)
    for name in ("a", "b"):
        publish(golden, home / name)
    subprocess.run(["diff", "-r", home / "a", home / "b"], check=True)


def seen(path: Path) -> tuple[int, int]:
    """By what a file that was written again is known."""
    return path.stat().st_ino, path.stat().st_mtime_ns


def test_what_is_there_is_not_written_again(keys: Keys, home: Path) -> None:
    depot = home / "depot"
    golden = image(home / "built", b"one" * 1000)
    publish(golden, depot)
    before = {path: seen(path) for path in depot.rglob("*") if path.is_file()}
    publish(golden, depot)
    assert {path: seen(path) for path in before} == before
    publish(image(home / "built", b"two" * 1000), depot)
    files = [path for path in before if "releases" in path.parts]
    assert files and all(seen(path) == before[path] for path in files)
    assert len(verify_folder(depot).releases) == 2


def test_pull_brings_what_was_published(keys: Keys, home: Path) -> None:
    depot = home / "depot"
    golden = image(home / "built", b"one" * 1000)
    publish(golden, depot)
    pulled = pull(NAME, str(depot), key=None)
    assert pulled.folder.is_relative_to(os.environ["CENTRALITA_OUTPUT"])
    assert pulled.qcow2_path.read_bytes() == golden.qcow2_path.read_bytes()
    assert pulled.record.golden_digest == golden.record.golden_digest
    again = pull(NAME, str(depot), formats=("raw.zst",), key=None)
    assert {form.format for form in again.record.formats} == {"qcow2", "raw.zst"}
    pin = load_pin(f"file://{depot}")
    assert pin is not None and pin.key == keys.minisign
    with pytest.raises(CentralitaError, match="no pbx-test 9"):
        pull(NAME, str(depot), version="9.0.0", key=None)
