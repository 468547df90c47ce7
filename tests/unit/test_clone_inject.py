"""Injection by the real libguestfs into small disks made here (some ten seconds in emulation)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from centralita.clone.files import GuestFile
from centralita.clone.inject import ROOT_PARTITION, inject
from centralita.ground.errors import CentralitaError
from centralita.ground.run import run

pytestmark = [pytest.mark.image, pytest.mark.timeout(300)]

_MIB = 1024 * 1024
_ROOT_START_MIB, _ROOT_SIZE_MIB, _DISK_MIB = 3, 12, 16


def make_golden(folder: Path) -> Path:
    """A qcow2 with three GPT partitions; the third has a passwd file and a link where a file will be written."""
    tree = folder / "tree"
    (tree / "etc/asterisk").mkdir(parents=True)
    (tree / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\nasterisk:x:101:102::/var/lib/asterisk:/bin/false\n")
    (tree / "etc/group").write_text("root:x:0:\nasterisk:x:102:\n")
    (tree / "etc/resolv.conf").symlink_to("/etc/victim")
    (tree / "etc/victim").write_text("untouched\n")
    root = folder / "root.ext4"
    run(
        ["mke2fs", "-q", "-t", "ext4", "-O", "^orphan_file,^metadata_csum_seed", "-d", tree, root, f"{_ROOT_SIZE_MIB}M"]
    )
    raw = folder / "disk.raw"
    with raw.open("wb") as file:
        file.truncate(_DISK_MIB * _MIB)
    table = "label: gpt\nstart=2048, size=2048\nstart=4096, size=2048\n"
    table += f"start={_ROOT_START_MIB * 2048}, size={_ROOT_SIZE_MIB * 2048}\n"
    run(["sfdisk", "-q", "--no-reread", "--no-tell-kernel", raw], stdin=table.encode())
    with raw.open("r+b") as file:
        file.seek(_ROOT_START_MIB * _MIB)
        file.write(root.read_bytes())
    golden = folder / "golden.qcow2"
    run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, golden])
    return golden


def overlay(golden: Path, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", golden, path])
    return path


def root_of(disk: Path, folder: Path) -> Path:
    """The root file system of a disk, as a file for debugfs(8)."""
    raw = folder / f"{disk.parent.name}.raw"
    run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", disk, raw])
    root = raw.with_suffix(".ext4")
    data = raw.read_bytes()
    root.write_bytes(data[_ROOT_START_MIB * _MIB : (_ROOT_START_MIB + _ROOT_SIZE_MIB) * _MIB])
    return root


def debugfs(root: Path, request: str) -> str:
    return run(["debugfs", "-R", request, root]).stdout


def owner_and_mode(root: Path, path: str) -> tuple[int, int, int]:
    shown = debugfs(root, f"stat {path}")
    found = re.search(r"Mode:\s+(\d+).*?User:\s+(\d+)\s+Group:\s+(\d+)", shown, re.DOTALL)
    assert found, shown
    return int(found.group(2)), int(found.group(3)), int(found.group(1), 8)


def test_two_disks_get_their_own_files_in_one_launch(tmp_path: Path) -> None:
    golden = make_golden(tmp_path)
    before = golden.read_bytes()
    disks = [overlay(golden, tmp_path / "clones of Ñandú" / name / "system.qcow2") for name in ("a", "b")]

    def files(name: str) -> list[GuestFile]:
        return [
            GuestFile("/etc/hostname", f"{name}\n".encode()),
            GuestFile("/etc/asterisk/pjsip.conf", b"; secret\n", 0o640, "root", "asterisk", secret=True),
            GuestFile("/etc/resolv.conf", b"nameserver 192.0.2.53\n"),
            GuestFile("/etc/localtime", symlink="/usr/share/zoneinfo/Europe/Madrid"),
            GuestFile("/root/.ssh", mode=0o700, directory=True),
            GuestFile("/root/.ssh/authorized_keys", b"x" * 100_000, 0o600),
        ]

    times = inject([(disk, files(disk.parent.name)) for disk in disks])
    assert times.launches == 1 and times.launch_s > 0 and times.write_s > 0
    assert golden.read_bytes() == before
    for disk in disks:
        root = root_of(disk, tmp_path)
        assert debugfs(root, "cat /etc/hostname") == f"{disk.parent.name}\n"
        assert owner_and_mode(root, "/etc/asterisk/pjsip.conf") == (0, 102, 0o640)
        assert owner_and_mode(root, "/root/.ssh") == (0, 0, 0o700)
        assert owner_and_mode(root, "/root/.ssh/authorized_keys") == (0, 0, 0o600)
        assert debugfs(root, "cat /root/.ssh/authorized_keys") == "x" * 100_000
        # A link at a file's place is replaced, and what it pointed to stays.
        assert debugfs(root, "cat /etc/resolv.conf") == "nameserver 192.0.2.53\n"
        assert debugfs(root, "cat /etc/victim") == "untouched\n"
        assert "/usr/share/zoneinfo/Europe/Madrid" in debugfs(root, "stat /etc/localtime")
        run(["e2fsck", "-fn", root])


def test_a_disk_without_a_root_is_an_error_with_its_path(tmp_path: Path) -> None:
    disk = tmp_path / "empty.qcow2"
    run(["qemu-img", "create", "-q", "-f", "qcow2", disk, "8M"])
    with pytest.raises(CentralitaError, match=r"empty\.qcow2: its root file system cannot be mounted"):
        inject([(disk, [GuestFile("/etc/hostname", b"x\n")])])
    assert ROOT_PARTITION == 3
