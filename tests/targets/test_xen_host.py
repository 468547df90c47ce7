"""The Xen host itself: the same one whatever QEMU the build host has."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from centralita.lab.guest import Prepared
from centralita.lab.xen.host import XenHost
from centralita.lab.xen.lab import XenLab
from centralita.lab.xen.qemu import pinned_qemu

pytestmark = pytest.mark.xdist_group("xen")

PINNED = "1:7.2+dfsg"


def emulators(workdir: Path) -> list[Path]:
    """The processes of QEMU, and of what started it, that run in a machine's folder (as folders of /proc)."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink() == workdir and b"-machine" in (process / "cmdline").read_bytes():
                found.append(process)
        except OSError:
            continue  # it has ended, or is not ours
    return found


def test_nothing_of_the_build_host_s_qemu_is_in_the_emulator(lab: XenLab) -> None:
    tree, _ = pinned_qemu()
    processes = emulators(lab.host.workdir.resolve())
    assert processes
    mapped = {
        Path(line.split(maxsplit=5)[5])
        for process in processes
        for line in (process / "maps").read_text().splitlines()
        if len(line.split(maxsplit=5)) == 6 and ".so" in line
    }
    assert mapped
    assert all(path.is_relative_to(tree.root.resolve()) for path in mapped), mapped


def test_another_qemu_in_the_path_changes_nothing(
    prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "bin/qemu-system-x86_64"
    other.parent.mkdir()
    other.write_text("#!/bin/sh\necho 'QEMU emulator version 10.0.13'\nexit 1\n")
    other.chmod(0o755)
    monkeypatch.setenv("PATH", f"{other.parent}:{os.environ['PATH']}")
    with prepared.network() as network, XenHost(network, tmp_path / "host", [], guests_mib=0) as host:
        version = host.qmp("query-version")
        assert isinstance(version, dict)
        assert PINNED in version["package"]
        host.wait_console(r"Xen version 4\.17", timeout_s=120)
