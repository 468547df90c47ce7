"""The parts of a golden disk that need no root: archives, module lists, trimming, boot menu, identifiers."""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from centralita.ground.errors import CentralitaError
from centralita.image.cpio import CpioArchive
from centralita.image.disk import raw_digest
from centralita.image.gpt import layout
from centralita.image.grub import grub_cfg
from centralita.image.kmods import ModuleIndex
from centralita.image.tree import ExtraFile, append, normalise
from centralita.image.trim import expand_braces, purge

UUID = "281a869b-bfbf-5769-831a-f4a80a61da9c"


def test_cpio_is_read_back_by_cpio(tmp_path: Path) -> None:
    """The archive that we write is one for the cpio program, and the same each time."""

    def make() -> bytes:
        archive = CpioArchive()
        archive.file("init", b"#!/bin/sh\n", 0o755)
        archive.file("lib/modules/7/a.ko", b"x" * 1001)
        archive.symlink("bin/sh", "busybox")
        return archive.finish()

    data = make()
    assert data == make()
    assert len(data) % 512 == 0
    listed = subprocess.run(["cpio", "-itv", "--quiet"], input=data, capture_output=True, check=True).stdout.decode()
    assert re.search(r"^-rwxr-xr-x .* init$", listed, re.MULTILINE)
    assert re.search(r"^-rw-r--r-- .* 1001 .* lib/modules/7/a.ko$", listed, re.MULTILINE)
    assert "bin/sh -> busybox" in listed
    assert listed.index(" lib\n") < listed.index(" lib/modules\n")


def _tar(path: Path, members: list[tuple[str, str, bytes]]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, kind, data in members:
            info = tarfile.TarInfo(name)
            info.mtime, info.uname, info.uid = os.getpid(), "builder", 7
            if kind == "dir":
                info.type = tarfile.DIRTYPE
                tar.addfile(info)
            elif kind == "link":
                info.type, info.linkname = tarfile.LNKTYPE, data.decode()
                tar.addfile(info)
            else:
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))


def test_normalised_tree_depends_on_contents_alone(tmp_path: Path) -> None:
    """Order, times, user names and which of two hard links came first do not change the canonical tar."""
    one = [
        ("./", "dir", b""), ("./usr", "dir", b""), ("./usr/perl", "file", b"P"), ("./usr/perl5", "link", b"./usr/perl"),
        ("./etc", "dir", b""), ("./dev", "dir", b""), ("./dev/null", "file", b""), ("./run", "dir", b""),
        ("./run/lock", "file", b"x"),
    ]  # fmt: skip
    two = [
        ("./run", "dir", b""), ("./etc", "dir", b""), ("./usr", "dir", b""), ("./usr/perl5", "file", b"P"),
        ("./usr/perl", "link", b"./usr/perl5"), ("./dev", "dir", b""),
    ]  # fmt: skip
    _tar(tmp_path / "1.tar", one)
    _tar(tmp_path / "2.tar", two)
    assert normalise(tmp_path / "1.tar", tmp_path / "a.tar", 1_790_000_000) == 1
    normalise(tmp_path / "2.tar", tmp_path / "b.tar", 1_790_000_000)
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()
    with tarfile.open(tmp_path / "a.tar") as tar:
        names = tar.getnames()
        assert names == sorted(names)
        assert "run/lock" not in names and "proc" in names
        assert tar.getmember("usr/perl5").linkname == "usr/perl"
        assert {m.mtime for m in tar} == {1_790_000_000}


def test_appended_files_bring_their_folders(tmp_path: Path) -> None:
    """A file added to a tree has the folders that it needs, owned by root."""
    _tar(tmp_path / "1.tar", [("etc", "dir", b"")])
    append(tmp_path / "1.tar", [ExtraFile("etc/a/b", b"data", 0o600), ExtraFile("etc/l", link="a/b")], 5)
    with tarfile.open(tmp_path / "1.tar") as tar:
        assert tar.getnames() == ["etc", "etc/a", "etc/a/b", "etc/l"]
        assert (tar.getmember("etc/a/b").mode, tar.getmember("etc/a/b").uid) == (0o600, 0)
        assert tar.getmember("etc/l").linkname == "a/b"


def _modules(folder: Path) -> ModuleIndex:
    (folder / "modules.dep").write_text(
        "kernel/fs/ext4/ext4.ko.xz: kernel/fs/jbd2/jbd2.ko.xz kernel/lib/crc16.ko.xz\n"
        "kernel/fs/jbd2/jbd2.ko.xz:\nkernel/lib/crc16.ko.xz:\nkernel/drivers/block/xen-blkfront.ko.xz:\n"
        "kernel/crypto/crc32c.ko.xz:\n"
    )
    (folder / "modules.builtin").write_text("kernel/drivers/virtio/virtio_pci.ko\n")
    (folder / "modules.softdep").write_text("# soft\nsoftdep ext4 pre: crc32c crypto-unknown\n")
    return ModuleIndex(folder)


def test_module_closure_has_dependencies_and_knows_builtin_ones(tmp_path: Path) -> None:
    """Hyphens and underscores are one; soft dependencies count where they are modules; built-in ones need no file."""
    index = _modules(tmp_path)
    assert [Path(p).name for p in index.closure(["ext4", "virtio_pci", "xen_blkfront"])] == [
        "crc32c.ko.xz", "xen-blkfront.ko.xz", "ext4.ko.xz", "jbd2.ko.xz", "crc16.ko.xz",
    ]  # fmt: skip
    with pytest.raises(CentralitaError, match="no_such, other"):
        index.closure(["ext4", "other", "no-such"])


def test_purge_keeps_what_is_not_named(tmp_path: Path) -> None:
    """Globs with braces remove exactly what they name; a link is removed and not what it points to."""
    assert expand_braces("/a/{b,c}.{x,y}") == ["/a/b.x", "/a/b.y", "/a/c.x", "/a/c.y"]
    for name in ("man/a", "doc/b", "keep/c"):
        (tmp_path / "usr/share" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "usr/share" / name).write_text("12345")
    (tmp_path / "usr/share/link").symlink_to("keep")
    assert purge(tmp_path, ["/usr/share/{man,doc,link,absent}"]) == 10
    assert sorted(p.name for p in (tmp_path / "usr/share").iterdir()) == ["keep"]
    assert (tmp_path / "usr/share/keep/c").read_text() == "12345"


def test_menu_is_flat_enough_for_pygrub() -> None:
    """Read by the rules of pygrub's parser (Xen's tools/pygrub/src/GrubConf.py), the menu has one whole entry."""
    text = grub_cfg(UUID, ["ro", "console=ttyS0,115200n8"])
    inside = False
    commands: dict[str, str] = {}
    titles = []
    for line in (raw.strip() for raw in text.splitlines()):
        if not line or line.startswith("#"):
            continue
        title = re.match(r"^menuentry ['\"](.*?)['\"] ?.*?\{", line)
        if title:
            inside = True
            titles.append(title.group(1))
        elif line.startswith("}"):
            inside = False
        elif inside:
            command, argument = line.split(None, 1)
            commands[command] = argument
    assert titles == ["Centralita"]
    assert commands["linux"].split() == ["/boot/vmlinuz", f"root=UUID={UUID}", "ro", "console=ttyS0,115200n8"]
    assert commands["initrd"] == "/boot/initrd.img"
    assert "$" not in commands["linux"], "pygrub expands no variable"


def test_partitions_fill_the_disk_and_do_not_overlap() -> None:
    """Each partition begins behind the one before, on whole MiB, and the backup table has the last one."""
    parts = layout(1024, 16)
    position = 1
    for part in parts:
        assert part.start_mib == position
        position += part.size_mib
    assert position == 1023
    assert [p.name for p in parts] == ["bios-boot", "esp", "pbx-root"]


def test_digest_of_a_sparse_disk_is_that_of_its_bytes(tmp_path: Path) -> None:
    """Holes count as the zeros that they are."""
    disk = tmp_path / "disk"
    with disk.open("wb") as stream:
        stream.truncate(5 * 1024 * 1024)
        stream.seek(3 * 1024 * 1024 + 17)
        stream.write(b"data")
    assert raw_digest(disk) == hashlib.sha256(disk.read_bytes()).hexdigest()
    dense = tmp_path / "dense"
    shutil.copyfile(disk, dense)
    dense.write_bytes(disk.read_bytes())
    assert raw_digest(dense) == raw_digest(disk)
    (tmp_path / "empty").write_bytes(b"")
    assert raw_digest(tmp_path / "empty") == hashlib.sha256(b"").hexdigest()
