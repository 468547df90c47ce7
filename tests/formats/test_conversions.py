"""Every format of a marker disk: the disk that is taken out again is the same, and made anew the file is the same."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from centralita.formats.catalogue import FORMATS, file_name
from centralita.formats.make import convert
from centralita.formats.subject import Subject
from centralita.formats.xva import DISK_REF, PIECE_BYTES
from centralita.ground.run import run
from centralita.image.disk import raw_digest
from centralita.packages.tools import ToolsTree, tools_tree

pytestmark = pytest.mark.xdist_group("conversions")

MIB = 1024 * 1024
SIZE_MIB = 1024
DISKS = [name for name, form in FORMATS.items() if form.holds == "disk"]
# What qemu-img calls them.
DRIVERS = {"vmdk": "vmdk", "vdi": "vdi", "vhd": "vpc", "vhdx": "vhdx", "qcow2": "qcow2"}


@pytest.fixture(scope="module")
def tools() -> ToolsTree:
    """The converters."""
    return tools_tree("formats")


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """A sparse disk of 1 GiB with marks: at both ends, across the borders of clusters, and what does not compress."""
    folder = tmp_path_factory.mktemp("marker")
    raw = folder / "disk.raw"
    with raw.open("wb") as stream:
        stream.truncate(SIZE_MIB * MIB)
        for at, data in (
            (0, b"first sector".ljust(512, b".")),
            (65536 - 7, b"over a cluster's border"),
            (100 * MIB - 100, hashlib.shake_256(b"marker").digest(3 * MIB)),
            (700 * MIB, b"x" * MIB),
            (SIZE_MIB * MIB - 512, b"last sector".ljust(512, b"!")),
        ):
            stream.seek(at)
            stream.write(data)
    tree = folder / "tree.tar"
    with tarfile.open(tree, "w") as tar:
        for name, content in (("boot/initrd.img", b"I"), ("boot/vmlinuz", b"K"), ("etc/hostname", b"centralita\n")):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return Subject(
        name="marker", title="A <marker> & more", version="1.0.0+abc", digest=raw_digest(raw), raw=raw,
        size_bytes=SIZE_MIB * MIB, tree=tree, tree_key="0" * 64, build="abc", memory_mib=512, vcpus=1,
        cmdline=("root=/dev/vda3", "ro"), epoch=1_700_000_000,
    )  # fmt: skip


@pytest.fixture(scope="module")
def made(subject: Subject, tools: ToolsTree, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Gives the file of a format."""
    folder = tmp_path_factory.mktemp("formats")

    def get(name: str) -> Path:
        path = folder / file_name(subject.name, name)
        if not path.exists():
            convert(name, subject, path, tools, get)
        return path

    return get


def members(path: Path) -> dict[str, bytes]:
    """The files of a tar."""
    with tarfile.open(path) as tar:
        return {m.name: stream.read() for m in tar if (stream := tar.extractfile(m)) is not None}


def blob(files: dict[str, bytes], descriptor: dict[str, str]) -> bytes:
    """A blob of an OCI layout, by its digest."""
    data = files[f"blobs/sha256/{descriptor['digest'].removeprefix('sha256:')}"]
    assert hashlib.sha256(data).hexdigest() == descriptor["digest"].removeprefix("sha256:")
    return data


def taken_out(name: str, path: Path, folder: Path) -> tuple[Path, str]:
    """The disk in a format's file, and what qemu-img calls its format."""
    if name in DRIVERS:
        return path, DRIVERS[name]
    disk = folder / "disk"
    if name.endswith("zst") or name == "vhd-fixed":
        run(["zstd", "-q", "-d", path, "-o", disk])
        return disk, "vpc" if name == "vhd-fixed" else "raw"
    files = members(path)
    if name == "ova":
        disk.write_bytes(files["marker-disk1.vmdk"])
        return disk, "vmdk"
    if name == "hdd":
        disk.write_bytes(next(data for name, data in files.items() if name.endswith(".hds")))
        return disk, "parallels"
    if name == "xva":
        with disk.open("wb") as stream:
            stream.truncate(SIZE_MIB * MIB)
            for file, data in files.items():
                if file.startswith(f"{DISK_REF}/") and not file.endswith(".checksum"):
                    stream.seek(int(file.partition("/")[2]) * PIECE_BYTES)
                    stream.write(data)
        return disk, "raw"
    assert name == "containerdisk"
    (manifest,) = json.loads(files["index.json"])["manifests"]
    (layer,) = json.loads(blob(files, manifest))["layers"]
    with tarfile.open(fileobj=io.BytesIO(blob(files, layer))) as tar:
        found = tar.extractfile("disk/marker.qcow2")
        assert found is not None
        disk.write_bytes(found.read())
    return disk, "qcow2"


@pytest.mark.parametrize("name", DISKS)
def test_the_disk_taken_out_again_is_the_same(
    name: str, subject: Subject, made: Callable[[str], Path], tmp_path: Path
) -> None:
    disk, driver = taken_out(name, made(name), tmp_path)
    raw = tmp_path / "out.raw"
    run(["qemu-img", "convert", "-f", driver, "-O", "raw", disk, raw])
    # Strictly: the size and the holes count, too.
    run(["qemu-img", "compare", "-s", "-f", "raw", "-F", "raw", subject.raw, raw])
    if driver in ("qcow2", "vdi", "vhdx", "vmdk", "parallels"):
        run(["qemu-img", "check", "-f", driver, disk])


@pytest.mark.parametrize("name", FORMATS)
def test_made_anew_the_file_is_the_same(
    name: str, subject: Subject, tools: ToolsTree, made: Callable[[str], Path], tmp_path: Path
) -> None:
    again = tmp_path / file_name(subject.name, name)
    convert(name, subject, again, tools, made)
    run(["cmp", made(name), again])
    # Nothing but the file: what is made on the way goes.
    assert [path.name for path in tmp_path.iterdir()] == [again.name]


def test_sparse_stays_sparse(made: Callable[[str], Path], tmp_path: Path) -> None:
    disk, _ = taken_out("raw.zst", made("raw.zst"), tmp_path)
    assert disk.stat().st_size == SIZE_MIB * MIB
    assert disk.stat().st_blocks * 512 < 16 * MIB
    shutil.rmtree(tmp_path)


def test_azure_s_rules_for_a_fixed_vhd(made: Callable[[str], Path], tmp_path: Path) -> None:
    disk, _ = taken_out("vhd-fixed", made("vhd-fixed"), tmp_path)
    # The disk in whole MiB, then the footer of 512 bytes, which says the same size, and type 2 (fixed).
    assert disk.stat().st_size == SIZE_MIB * MIB + 512
    footer = disk.read_bytes()[-512:]
    assert footer[:8] == b"conectix"
    assert int.from_bytes(footer[48:56], "big") == SIZE_MIB * MIB
    assert int.from_bytes(footer[60:64], "big") == 2
    unsigned = footer[:64] + bytes(4) + footer[68:]
    assert int.from_bytes(footer[64:68], "big") == ~sum(unsigned) & 0xFFFFFFFF
