"""Injection by the real libguestfs into small disks made here (some ten seconds in emulation)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from centralita.clone.files import GuestFile
from centralita.clone.inject import ROOT_PARTITION, inject
from centralita.ground.errors import CentralitaError
from centralita.ground.run import run
from tests.batch import root_of, small_disk

pytestmark = [pytest.mark.image, pytest.mark.timeout(300)]


def overlay(golden: Path, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", golden, path])
    return path


def debugfs(root: Path, request: str) -> str:
    return run(["debugfs", "-R", request, root]).stdout


def owner_and_mode(root: Path, path: str) -> tuple[int, int, int]:
    shown = debugfs(root, f"stat {path}")
    found = re.search(r"Mode:\s+(\d+).*?User:\s+(\d+)\s+Group:\s+(\d+)", shown, re.DOTALL)
    assert found, shown
    return int(found.group(2)), int(found.group(3)), int(found.group(1), 8)


def test_two_disks_get_their_own_files_in_one_launch(tmp_path: Path) -> None:
    golden = small_disk(tmp_path)
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
