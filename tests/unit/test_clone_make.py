"""Clones: complete or absent. libguestfs itself is exercised by the image tests; here is what surrounds it."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from centralita.clone import make
from centralita.clone.archive import archive
from centralita.clone.data import MARKER
from centralita.clone.disks import Golden
from centralita.clone.files import GuestFile
from centralita.clone.identity import IdentityStore
from centralita.clone.inject import Injected
from centralita.clone.make import make_clone, make_clones, remove_clone
from centralita.ground.errors import CentralitaError
from centralita.ground.run import run
from centralita.packages.fetch import sha256_of
from centralita.spec.tenant import Tenant

pytestmark = pytest.mark.unit


def tenant(name: str = "acme") -> Tenant:
    return Tenant.model_validate({"name": name, "extensions": ({"number": "101", "name": "Ana"},)})


@pytest.fixture
def golden(tmp_path: Path) -> Golden:
    disk = tmp_path / "golden image" / "pbx.qcow2"
    disk.parent.mkdir()
    run(["qemu-img", "create", "-q", "-f", "qcow2", disk, "8M"])
    raw = tmp_path / "disk.raw"
    run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", disk, raw])
    form = SimpleNamespace(format="qcow2", sha256=sha256_of(disk))
    record = SimpleNamespace(
        golden_digest=sha256_of(raw), appliance="pbx", full_version="1.0.0+abc", formats=(form,), disk_key="none"
    )
    return cast(Golden, SimpleNamespace(qcow2_path=disk, record=record))


@pytest.fixture
def store(tmp_path: Path) -> IdentityStore:
    return IdentityStore(tmp_path / "ids")


@pytest.fixture
def injected(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path, Sequence[GuestFile]]]:
    seen: list[tuple[Path, Sequence[GuestFile]]] = []

    def pretend(items: Sequence[tuple[Path, Sequence[GuestFile]]], **_options: object) -> Injected:
        seen.extend(items)
        for disk, files in items:
            with disk.open("r+b") as stream:
                # Behind what a qcow2 uses, and not in its header.
                stream.seek(4096 if disk.suffix == ".raw" else disk.stat().st_size)
                stream.write(next(file.content for file in files if file.path == "/etc/machine-id"))
        return Injected(1, 1.0, 0.1 * len(items))

    monkeypatch.setattr(make, "inject", pretend)
    monkeypatch.setattr(make, "capacity", lambda: 255)
    return seen


def test_a_clone_is_an_overlay_and_a_record(
    tmp_path: Path, golden: Golden, store: IdentityStore, injected: list[tuple[Path, Sequence[GuestFile]]]
) -> None:
    extra = GuestFile("/boot/grub/lab.cfg", b"menuentry")
    clone = make_clone(golden, tenant(), tmp_path / "clones" / "acme", store, [extra])
    assert sorted(path.name for path in clone.folder.iterdir()) == ["clone.json", "system.qcow2"]
    assert clone.disk.stat().st_mode & 0o777 == 0o600
    described = json.loads(run(["qemu-img", "info", "--output=json", clone.disk]).stdout)
    assert described["backing-filename"] == str(golden.qcow2_path.resolve())
    assert described["backing-filename-format"] == "qcow2"
    record = json.loads((clone.folder / "clone.json").read_text())
    made = store.get_or_create(tenant())
    assert (record["mac"], record["uuid"]) == (made.mac, made.uuid)
    assert record["golden_digest"] == golden.record.golden_digest
    text = (clone.folder / "clone.json").read_text()
    assert made.sip_secrets["101"] not in text and made.voicemail_pins["101"] not in text
    assert injected[0][1][-1] == extra
    remove_clone(clone.folder)
    assert not clone.folder.exists()


def test_a_whole_disk_needs_no_golden_image(
    tmp_path: Path, golden: Golden, store: IdentityStore, injected: list[tuple[Path, Sequence[GuestFile]]]
) -> None:
    clone = make_clones(golden, [(tenant(), tmp_path / "acme", ())], store, target="xen-pv")[0][0]
    assert sorted(path.name for path in clone.folder.iterdir()) == ["clone.json", "system.raw"]
    described = json.loads(run(["qemu-img", "info", "-f", "raw", "--output=json", clone.disk]).stdout)
    assert described["virtual-size"] == 8 * 2**20 and "backing-filename" not in described
    assert described["actual-size"] < 2**16 and clone.disk.stat().st_mode & 0o777 == 0o600
    record = json.loads((clone.folder / "clone.json").read_text())
    assert (record["target"], record["backing"]) == ("xen-pv", None)


def test_an_error_leaves_nothing(
    tmp_path: Path, golden: Golden, store: IdentityStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_items: object, **_options: object) -> Injected:
        raise CentralitaError("no libguestfs")

    monkeypatch.setattr(make, "inject", fails)
    monkeypatch.setattr(make, "capacity", lambda: 255)
    wanted = [(tenant(name), tmp_path / "clones" / name, ()) for name in ("a", "b")]
    with pytest.raises(CentralitaError, match="no libguestfs"):
        make_clones(golden, wanted, store)
    assert list((tmp_path / "clones").iterdir()) == []


def test_what_is_there_is_not_replaced(
    tmp_path: Path, golden: Golden, store: IdentityStore, injected: list[tuple[Path, Sequence[GuestFile]]]
) -> None:
    (tmp_path / "acme").mkdir()
    with pytest.raises(CentralitaError, match="is there already"):
        make_clone(golden, tenant(), tmp_path / "acme", store)
    with pytest.raises(CentralitaError, match="not a clone"):
        remove_clone(tmp_path / "acme")
    assert injected == []


def test_the_archive_has_numeric_owners_modes_links_and_folders() -> None:
    files = [
        GuestFile("/root/.ssh", mode=0o700, directory=True),
        GuestFile("/etc/asterisk/pjsip.conf", "ñ".encode(), 0o640, group="asterisk", secret=True),
        GuestFile("/etc/localtime", symlink="/usr/share/zoneinfo/Etc/UTC"),
    ]
    stream = archive(files, {"root": 0}, {"root": 0, "asterisk": 101}, 1_700_000_000.0)
    with tarfile.open(fileobj=io.BytesIO(stream)) as tar:
        folder, config, link = tar.getmembers()
        content = tar.extractfile(config)
        assert content is not None and content.read() == "ñ".encode()
    assert folder.isdir() and folder.mode == 0o700
    assert (config.name, config.mode, config.uid, config.gid) == ("etc/asterisk/pjsip.conf", 0o640, 0, 101)
    assert (config.uname, config.gname) == ("", "")  # tar in libguestfs would look names up in its own passwd
    assert link.issym() and link.linkname == "/usr/share/zoneinfo/Etc/UTC"


def test_an_owner_that_the_guest_lacks_is_an_error() -> None:
    with pytest.raises(CentralitaError, match="no group 'asterisk'"):
        archive([GuestFile("/x", group="asterisk")], {"root": 0}, {"root": 0}, 0.0)


def test_a_data_disk_is_sparse_ext4_with_its_label_and_definitions_lie_beside_it(
    tmp_path: Path, golden: Golden, store: IdentityStore, injected: list[tuple[Path, Sequence[GuestFile]]]
) -> None:
    folder = tmp_path / "clones" / "acme"

    def define(clone: make.Clone) -> dict[str, str]:
        return {"domain.xml": f"<name>{clone.name}</name>", "run-qemu": "#!/bin/sh\n"}

    ((clone,), _times) = make_clones(golden, [(tenant(), folder, ())], store, data_mib=8192, define=define)
    assert clone.data == folder / "data.raw"
    stat = clone.data.stat()
    assert stat.st_size == 8192 * 1024 * 1024 and stat.st_blocks * 512 < 1024 * 1024
    assert stat.st_mode & 0o777 == 0o600
    with clone.data.open("rb") as disk:
        superblock = disk.read(2048)[1024:]
    assert superblock[0x38:0x3A] == b"\x53\xef" and superblock[0x78:0x88].rstrip(b"\0") == b"pbx-data"
    assert (folder / "domain.xml").read_text() == "<name>acme</name>"
    assert (folder / "run-qemu").stat().st_mode & 0o111


def test_a_kept_data_disk_is_used_again_and_never_formatted(
    tmp_path: Path, golden: Golden, store: IdentityStore, injected: list[tuple[Path, Sequence[GuestFile]]]
) -> None:
    folder = tmp_path / "clones" / "acme"
    first = make_clone(golden, tenant(), folder, store, data_mib=64)
    assert first.data is not None
    with first.data.open("r+b") as disk:
        disk.write(b"voicemail")
    inode = first.data.stat().st_ino
    remove_clone(folder, keep_data=True)
    assert [path.name for path in folder.iterdir()] == ["data.raw"]
    second = make_clone(golden, tenant(), folder, store)
    assert second.data == first.data and second.data.stat().st_ino == inode and second.data.stat().st_nlink == 1
    assert second.data.read_bytes()[:9] == b"voicemail"
    assert sorted(path.name for path in folder.iterdir()) == ["clone.json", "data.raw", "system.qcow2"]
    assert [path.name for path in folder.parent.iterdir()] == ["acme"]
    assert all(MARKER in files for _disk, files in injected) and len(injected) == 2


def test_a_failed_clone_leaves_the_kept_data_disk_alone(
    tmp_path: Path,
    golden: Golden,
    store: IdentityStore,
    injected: list[tuple[Path, Sequence[GuestFile]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "acme"
    make_clone(golden, tenant(), folder, store, data_mib=64)
    remove_clone(folder, keep_data=True)
    content = (folder / "data.raw").read_bytes()

    def fails(_new: object, _dest: object) -> None:
        raise CentralitaError("no place")

    monkeypatch.setattr(make, "place", fails)
    with pytest.raises(CentralitaError, match="no place"):
        make_clone(golden, tenant(), folder, store, data_mib=64)
    assert [path.name for path in folder.iterdir()] == ["data.raw"]
    assert (folder / "data.raw").read_bytes() == content and (folder / "data.raw").stat().st_nlink == 1


def test_an_image_that_is_not_that_of_its_record_is_refused(
    tmp_path: Path, golden: Golden, store: IdentityStore, injected: list[tuple[Path, Sequence[GuestFile]]]
) -> None:
    with golden.qcow2_path.open("r+b") as disk:
        disk.seek(-1, 2)
        disk.write(b"x")
    with pytest.raises(CentralitaError, match=r"pbx\.qcow2 is not the image of pbx 1\.0\.0\+abc: its SHA-256 is "):
        make_clone(golden, tenant(), tmp_path / "clones" / "acme", store)
    assert not (tmp_path / "clones").exists() and injected == [] and store.all() == []


def test_a_whole_disk_is_refused_where_the_golden_digest_differs(
    tmp_path: Path, golden: Golden, store: IdentityStore, injected: list[tuple[Path, Sequence[GuestFile]]]
) -> None:
    cast(SimpleNamespace, golden.record).golden_digest = "d" * 64
    with pytest.raises(CentralitaError, match=f"its record says {'d' * 64}"):
        make_clones(golden, [(tenant(), tmp_path / "acme", ())], store, full=True)
    assert not (tmp_path / "acme").exists() and injected == []


def test_a_disk_with_another_s_identity_is_not_published(
    tmp_path: Path, golden: Golden, store: IdentityStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(make, "inject", lambda *_items, **_options: Injected(1, 1.0, 0.1))
    with pytest.raises(CentralitaError, match="does not hold the machine-id of acme"):
        make_clones(golden, [(tenant(), tmp_path / "clones" / "acme", ())], store, batch=1)
    assert list((tmp_path / "clones").iterdir()) == []


def test_those_of_a_launch_are_there_when_a_later_one_fails(
    tmp_path: Path,
    golden: Golden,
    store: IdentityStore,
    injected: list[tuple[Path, Sequence[GuestFile]]],
) -> None:
    told: list[str] = []

    def twice(made: Sequence[make.Clone]) -> None:
        if told:
            raise CentralitaError("no memory")
        told.extend(clone.name for clone in made)

    wanted = [(tenant(f"t{i}"), tmp_path / "clones" / f"t{i}", ()) for i in range(5)]
    with pytest.raises(CentralitaError, match="no memory"):
        make_clones(golden, wanted, store, batch=2, publishing=twice)
    assert sorted(path.name for path in (tmp_path / "clones").iterdir()) == ["t0", "t1"] == told
    assert len(injected) == 4
