"""Golden images in every format, and overlays on their disks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from centralita.clone.inject import inject
from centralita.formats.make import FormatFile, make
from centralita.ground import accel
from centralita.ground.report import get_reporter
from centralita.ground.run import run
from centralita.image.build import Golden
from centralita.lab.options import lab_cfg
from tests.seeded import Seeded, judged, seeded

__all__ = ["Seeded", "judged", "seeded"]

BOOT_S = 420.0
Formats = Callable[..., tuple[FormatFile, ...]]


@pytest.fixture(scope="session")
def formats(golden: Golden) -> Formats:
    """Gives files of the golden image's formats."""

    def get(*names: str) -> tuple[FormatFile, ...]:
        with get_reporter().step("formats", total=len(names)) as step:
            return make(names, golden, step)

    return get


@pytest.fixture(scope="session")
def overlay(golden: Golden, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path, str], Path]:
    """Makes an overlay on a disk in a format, with the lab's kernel options where machines are emulated."""
    workdir = tmp_path_factory.mktemp("overlays")

    def make_overlay(disk: Path, driver: str) -> Path:
        path = workdir / f"{driver}-{len(list(workdir.iterdir()))}.qcow2"
        run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", driver, "-b", disk, path])
        if accel.probe().name == "tcg":
            inject([(path, [lab_cfg(golden.record.kernel_cmdline)])])
        return path

    return make_overlay
