"""`invoke remove` frees what a clone holds and keeps its data; `invoke clean` leaves what overlays need."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from centralita.clone.registry import Claim, Registry
from centralita.desk.cleaning import clean_caches
from centralita.desk.removing import remove
from centralita.ground.errors import CentralitaError

pytestmark = pytest.mark.unit

MAC = "52:54:00:00:00:01"


@pytest.fixture
def clone(home: Path) -> Path:
    """A clone's folder with a data disk, known to the registry; its golden image is in output/."""
    folder = home / "clones" / "acme"
    folder.mkdir(parents=True)
    golden = home / "output" / "pbx" / "1" / "pbx.qcow2"
    golden.parent.mkdir(parents=True)
    golden.write_bytes(b"golden")
    (folder / "system.qcow2").write_bytes(b"system")
    (folder / "data.raw").write_bytes(b"voicemail")
    record = {
        "name": "acme", "uuid": "u", "mac": MAC, "address": "192.0.2.9", "golden_digest": "d", "appliance": "pbx",
        "version": "1", "disk": str(folder / "system.qcow2"), "backing": str(golden), "data": str(folder / "data.raw"),
    }  # fmt: skip
    (folder / "clone.json").write_text(json.dumps(record))
    with Registry().claimed([Claim("acme", str(folder), MAC, "192.0.2.9")]):
        pass
    return folder


def test_its_data_stay_and_all_else_is_free(clone: Path) -> None:
    with pytest.raises(CentralitaError, match=MAC), Registry().claimed([Claim("other", "/x", MAC, None)]):
        pass
    remove("acme", from_="", purge=False, dry_run=False)
    assert [path.name for path in clone.iterdir()] == ["data.raw"]
    assert (clone / "data.raw").read_bytes() == b"voicemail"
    assert Registry().all() == []
    with Registry().claimed([Claim("other", "/x", MAC, "192.0.2.9")]):
        pass


def test_purge_removes_data_too(clone: Path) -> None:
    remove("acme", from_="", purge=True, dry_run=False)
    assert not clone.exists()


def test_a_dry_run_removes_nothing(clone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    remove("acme", from_="", purge=True, dry_run=True)
    assert f"{clone} would be removed" in capsys.readouterr().out
    assert len(list(clone.iterdir())) == 3 and len(Registry().all()) == 1


def test_what_is_no_clone_is_refused(home: Path) -> None:
    with pytest.raises(CentralitaError, match="not a clone's folder"):
        remove("nobody", from_=str(home), purge=True, dry_run=False)


def test_clean_keeps_the_images_of_overlays(clone: Path, home: Path) -> None:
    golden = home / "output" / "pbx" / "1" / "pbx.qcow2"
    with pytest.raises(CentralitaError, match=r"overlays of golden images in .*: acme"):
        clean_caches(packages=False, output=True, dry_run=False)
    assert golden.is_file()
    remove("acme", from_="", purge=False, dry_run=False)
    clean_caches(packages=False, output=True, dry_run=False)
    assert not golden.exists()
