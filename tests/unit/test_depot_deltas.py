"""Deltas between releases, and downloads that are cut off: small disks, but real ones."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from centralita.depot import deltas, upgrade
from centralita.depot.client import load_pin
from centralita.depot.deltas import apply_delta, make_delta
from centralita.depot.keys import Keys
from centralita.depot.packed import pack, unpack
from centralita.depot.pull import pull
from centralita.depot.verify import verify_folder
from centralita.desk import depots
from centralita.ground.errors import CentralitaError
from centralita.image.build import Golden
from centralita.image.disk import raw_digest
from centralita.image.formats import write_qcow2
from centralita.packages.tools import ToolsTree
from tests.depot import NAME, image, publish
from tests.web import Web, serving

pytestmark = pytest.mark.unit

MIB = 1 << 20
# The host's own programs: which versions they have matters for published images only.
HOST = ToolsTree("formats", Path("/"), "host", False)


def noise(name: str, size: int) -> bytes:
    """Bytes that do not compress."""
    return hashlib.shake_256(name.encode()).digest(size)


def disk(path: Path, parts: dict[int, bytes], size: int = 16 * MIB) -> Path:
    """A sparse raw disk with these bytes at these places."""
    with path.open("wb") as stream:
        stream.truncate(size)
        for at, data in parts.items():
            stream.seek(at)
            stream.write(data)
    return path


def two(folder: Path) -> tuple[Path, Path]:
    """Disks like those of two releases: a new file in the middle moves all that follows by five blocks."""
    one, other = noise("one", 2 * MIB), noise("other", 2 * MIB)
    small = noise("new", 20480)
    old = disk(folder / "old.raw", {0: b"table", MIB: one, MIB + len(one): other})
    new = disk(folder / "new.raw", {0: b"TABLE", MIB: one, MIB + len(one): small, MIB + len(one) + 20480: other})
    return old, new


@pytest.mark.parametrize("size", [4 * MIB, 4 * MIB + 512, 100, 0])
def test_a_packed_disk_is_unpacked_as_it_was(tmp_path: Path, size: int) -> None:
    parts = {0: b"x" * 100, 4096: bytes(8192), 3 * MIB - 5: b"over the border", size - 3: b"end"}
    raw = disk(tmp_path / "raw", {at: data for at, data in parts.items() if 0 <= at <= size - len(data)}, size)
    packed = pack(raw, tmp_path / "packed")
    assert packed == (tmp_path / "packed").stat().st_size < 6 * 4096
    unpack(tmp_path / "packed", tmp_path / "again")
    assert (tmp_path / "again").stat().st_size == size
    assert raw_digest(tmp_path / "again") == raw_digest(raw)
    assert (tmp_path / "again").stat().st_blocks <= raw.stat().st_blocks
    # Zeros that are written and zeros that are a hole are the same disk.
    (tmp_path / "dense").write_bytes(raw.read_bytes())
    pack(tmp_path / "dense", tmp_path / "packed2")
    assert (tmp_path / "packed").read_bytes() == (tmp_path / "packed2").read_bytes()
    (tmp_path / "packed").write_bytes(b"something else that is long enough for a footer")
    with pytest.raises(CentralitaError, match="not a packed disk"):
        unpack(tmp_path / "packed", tmp_path / "again")


def test_a_delta_is_small_and_always_the_same(tmp_path: Path) -> None:
    old, new = two(tmp_path)
    for name in ("a", "b"):
        make_delta(old, new, tmp_path / name, HOST)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert (tmp_path / "a").stat().st_size < 30_000
    apply_delta(old, tmp_path / "a", tmp_path / "made", HOST)
    assert raw_digest(tmp_path / "made") == raw_digest(new)
    with pytest.raises(CentralitaError):
        apply_delta(new, tmp_path / "a", tmp_path / "wrong", HOST)


@pytest.fixture
def host_tools(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deltas and qcow2 are made by the host's programs: the pinned ones would have to be downloaded first."""
    for module in (deltas, upgrade):
        monkeypatch.setattr(module, "tools_tree", lambda name: HOST)


def built(output: Path, raw: Path, version: str) -> Golden:
    """A golden image with a real qcow2 of *raw*."""
    qcow2 = output / "made.qcow2"
    output.mkdir(exist_ok=True)
    write_qcow2(raw, qcow2, HOST)
    golden = image(output, raw.read_bytes(), version=version, files={"qcow2": qcow2.read_bytes()})
    qcow2.unlink()
    return golden


@pytest.fixture
def web(keys: Keys, home: Path, host_tools: None) -> Iterator[Web]:
    """A depot of two releases with a delta, on a web server; the first release is in output/ already."""
    depot = home / "depot"
    for raw, version in zip(two(home), ("1.0.0", "1.0.1"), strict=True):
        publish(built(home / "built", raw, version), depot)
    with serving(depot) as server:
        pull(NAME, server.url, version="1.0.0", key=keys.minisign)
        server.sent.clear()
        yield server


def newer(home: Path) -> bytes:
    """The published qcow2 of the second release."""
    (path,) = (home / "depot").glob(f"releases/{NAME}/1.0.1_*/{NAME}.qcow2")
    return path.read_bytes()


def delta_of(home: Path) -> Path:
    """The published delta."""
    (path,) = (home / "depot").glob(f"releases/{NAME}/1.0.1_*/from-1.0.0_*.delta.zst")
    return path


def test_an_upgrade_downloads_the_delta(web: Web, home: Path) -> None:
    pulled = pull(NAME, web.url, key=None)
    assert pulled.qcow2_path.read_bytes() == newer(home)
    assert web.total(".qcow2") == 0
    assert 0 < web.total(".delta.zst") < len(newer(home)) * 0.15
    assert not list((home / "cache/centralita/downloads").iterdir())
    # All of it is signed, and another publish of the same makes no delta anew.
    before = (delta_of(home).stat().st_ino, delta_of(home).stat().st_mtime_ns)
    shutil.rmtree(home / "cache")
    shutil.rmtree(home / "output")
    publish(built(home / "built", home / "new.raw", "1.0.1"), home / "depot")
    assert (delta_of(home).stat().st_ino, delta_of(home).stat().st_mtime_ns) == before
    (listed,) = [line for line in verify_folder(home / "depot").index.releases if line.deltas]
    assert listed.deltas[0].from_version.startswith("1.0.0+")
    # A depot made elsewhere, and one whose older release is gone, have the same delta.
    depots.prune(str(home / "depot"), keep=1, appliance="", valid_days=30, dry_run=False)
    verify_folder(home / "depot")
    assert delta_of(home).is_file()


def test_a_damaged_delta_is_not_used(web: Web, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = delta_of(home)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert pull(NAME, web.url, key=None).qcow2_path.read_bytes() == newer(home)
    said = capsys.readouterr()
    assert "is not what was signed" in said.out + said.err and "taking the whole" in said.out + said.err
    assert web.total(".qcow2") == len(newer(home))
    with pytest.raises(CentralitaError, match=r"delta.zst is not what was signed"):
        verify_folder(home / "depot")


def test_an_older_image_that_was_changed_is_not_used(web: Web, home: Path) -> None:
    (old,) = (home / "output").glob(f"{NAME}/1.0.0+*/{NAME}.qcow2")
    old.chmod(0o644)
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -P 7 0 4096", old], check=True, capture_output=True)
    assert pull(NAME, web.url, key=None).qcow2_path.read_bytes() == newer(home)
    assert web.total(".qcow2") == len(newer(home))


@pytest.mark.parametrize("ranges", [True, False])
def test_a_download_that_was_cut_off_goes_on(web: Web, home: Path, ranges: bool) -> None:
    """It is refused as it is; the same command goes on where it ended, and where the server knows no ranges anew."""
    shutil.rmtree(home / "output")
    whole = len(newer(home))
    web.cut, web.ranges = (".qcow2", whole // 2), ranges
    with pytest.raises(CentralitaError, match=r"cut off|cannot read"):
        pull(NAME, web.url, key=None)
    assert not list((home / "output").rglob("*.qcow2"))
    web.cut = None
    web.sent.clear()
    assert pull(NAME, web.url, key=None).qcow2_path.read_bytes() == newer(home)
    assert web.total(".qcow2") == (whole - whole // 2 if ranges else whole)
    assert load_pin(web.url) is not None
