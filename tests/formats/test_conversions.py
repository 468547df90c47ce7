"""Every format of a marker disk: the disk that is taken out again is the same, and made anew the file is the same."""

from __future__ import annotations

import hashlib
import io
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from centralita.formats.catalogue import FORMATS, file_name
from centralita.formats.make import convert
from centralita.formats.subject import Subject
from centralita.ground.run import run
from centralita.image.disk import raw_digest
from centralita.packages.tools import ToolsTree, tools_tree
from tests.formats.unpack import assert_same_disk, taken_out

pytestmark = pytest.mark.xdist_group("conversions")

MIB = 1024 * 1024
SIZE_MIB = 1024
DISKS = [name for name, form in FORMATS.items() if form.holds == "disk"]


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


@pytest.mark.parametrize("name", DISKS)
def test_the_disk_taken_out_again_is_the_same(
    name: str, subject: Subject, made: Callable[[str], Path], tmp_path: Path
) -> None:
    disk = taken_out(name, made(name), tmp_path, SIZE_MIB * MIB)
    assert_same_disk(name, disk, subject.raw, tmp_path)


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
    disk = taken_out("raw.zst", made("raw.zst"), tmp_path, SIZE_MIB * MIB)
    assert disk.stat().st_size == SIZE_MIB * MIB
    assert disk.stat().st_blocks * 512 < 16 * MIB
    shutil.rmtree(tmp_path)


def test_azure_s_rules_for_a_fixed_vhd(made: Callable[[str], Path], tmp_path: Path) -> None:
    disk = taken_out("vhd-fixed", made("vhd-fixed"), tmp_path, SIZE_MIB * MIB)
    # The disk in whole MiB, then the footer of 512 bytes, which says the same size, and type 2 (fixed).
    assert disk.stat().st_size == SIZE_MIB * MIB + 512
    footer = disk.read_bytes()[-512:]
    assert footer[:8] == b"conectix"
    assert int.from_bytes(footer[48:56], "big") == SIZE_MIB * MIB
    assert int.from_bytes(footer[60:64], "big") == 2
    unsigned = footer[:64] + bytes(4) + footer[68:]
    assert int.from_bytes(footer[64:68], "big") == ~sum(unsigned) & 0xFFFFFFFF
