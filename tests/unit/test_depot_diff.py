"""What differs between two releases; and the depot's tasks as a user meets them, in processes of their own."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from centralita.depot.client import Depot
from centralita.depot.diff import difference
from centralita.depot.keys import Keys
from centralita.depot.reader import FolderReader
from centralita.depot.tree_diff import compare, read_tree
from centralita.ground.errors import CentralitaError
from tests.depot import image, publish

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
MIB = 1 << 20


def ext4_disk(path: Path, files: dict[str, str]) -> Path:
    """A raw disk of 8 MiB whose third partition is an ext4 file system with these files."""
    tree = path.with_suffix(".tree")
    for name, content in files.items():
        target = tree / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if content.startswith("-> "):
            target.symlink_to(content[3:])
        else:
            target.write_text(content)
            target.chmod(0o755 if content.startswith("#!") else 0o644)
    with path.open("wb") as stream:
        stream.truncate(8 * MIB)
        stream.seek(512)
        stream.write(b"EFI PART".ljust(72, b"\0") + struct.pack("<QII", 2, 128, 128))
        stream.seek(1024 + 2 * 128)
        stream.write(b"x" * 32 + struct.pack("<QQ", MIB // 512, 7 * MIB // 512))
    argv = ["mke2fs", "-q", "-F", "-t", "ext4", "-E", f"offset={MIB}", "-d", str(tree), str(path), "6M"]
    subprocess.run(argv, check=True, capture_output=True)
    return path


def test_files_of_two_images_are_compared(home: Path) -> None:
    same = {"etc/passwd": "root", "usr/bin/a": "#!a", "usr/lib/x": "-> y", "etc/asterisk/pjsip.conf": "one"}
    old = ext4_disk(home / "old.raw", {**same, "usr/bin/gone": "gone", "etc/kind": "file"})
    new = ext4_disk(
        home / "new.raw",
        {**same, "usr/bin/a": "a!", "usr/lib/x": "-> z", "etc/asterisk/pjsip.conf": "three", "etc/kind": "-> passwd",
         "usr/share/new": "new"},
    )  # fmt: skip
    found = {change.path: change for change in compare(read_tree(old, 3), read_tree(new, 3))}
    assert {path: change.what for path, change in found.items()} == {
        "/etc/asterisk/pjsip.conf": "content",
        "/etc/kind": "kind",
        "/usr/bin/a": "content",
        "/usr/bin/gone": "gone",
        "/usr/lib/x": "content",
        "/usr/share": "new",
        "/usr/share/new": "new",
    }
    assert (found["/etc/asterisk/pjsip.conf"].old_bytes, found["/etc/asterisk/pjsip.conf"].new_bytes) == (3, 5)
    with pytest.raises(CentralitaError, match="no partition 4"):
        read_tree(new, 4)


@pytest.fixture
def depot(keys: Keys, home: Path) -> Path:
    """A depot of two releases that differ in packages."""
    publish(image(home / "built", b"one" * 1000, packages=("asterisk", "mc")), home / "depot")
    publish(image(home / "built", b"two" * 1001, version="1.0.1", packages=("asterisk", "tree")), home / "depot")
    return home / "depot"


def task(*argv: str) -> subprocess.CompletedProcess[str]:
    """Run invoke."""
    return subprocess.run(
        [sys.executable, "-m", "invoke", *argv], cwd=ROOT, env=dict(os.environ), capture_output=True, text=True,
        check=False,
    )  # fmt: skip


def test_releases_are_compared(depot: Path) -> None:
    done = task("depot.diff", str(depot), "1.0.0", "1.0.1", "--no-files", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [(p["name"], p["old"], p["new"]) for p in found["packages"]] == [("mc", "1-1", None), ("tree", None, "1-1")]
    assert found["formats"][0] == {"format": "qcow2", "old_bytes": 3004, "new_bytes": 3007}
    assert not found["same_disk"] and found["files"] is None
    text = task("depot.diff", str(depot), "1.0.0", "1.0.1", "--no-files").stdout
    assert "tree 1-1: new" in text and "mc 1-1: gone" in text
    opened = Depot.open(FolderReader(depot))
    with pytest.raises(CentralitaError, match=r"no appliance here has both 1.0.0 and 2.0.0"):
        difference(opened, "1.0.0", "2.0.0")
    with pytest.raises(CentralitaError, match="the depot has no pbx-other"):
        difference(opened, "1.0.0", "1.0.1", appliance="pbx-other")


def test_verify_and_prune_by_their_tasks(depot: Path) -> None:
    before = {path: path.read_bytes() for path in depot.rglob("*") if path.is_file()}
    done = task("depot.prune", str(depot), "--keep", "1", "--dry-run")
    assert done.returncode == 0 and "would remove releases/pbx-test/1.0.0" in done.stdout + done.stderr
    assert {path: path.read_bytes() for path in depot.rglob("*") if path.is_file()} == before
    assert task("depot.prune", str(depot), "--keep", "0").returncode == 1
    assert task("depot.verify", str(depot)).returncode == 0
    qcow2 = next(depot.glob("releases/pbx-test/1.0.1_*/*.qcow2"))
    data = bytearray(qcow2.read_bytes())
    data[-1] ^= 1
    qcow2.write_bytes(data)
    done = task("depot.verify", str(depot))
    assert done.returncode == 1 and "pbx-test.qcow2 is not what was signed" in done.stdout + done.stderr
