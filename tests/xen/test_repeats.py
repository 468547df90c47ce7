"""The same boot and the same call, again and again: how often they fail.

`invoke test --target xen-pv,xen-pvh --repeat 10` runs only this. Each turn has a disk that no other turn wrote to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from centralita.clone.xl import XEN_TARGETS, XenTarget
from centralita.lab.guest import Prepared
from centralita.lab.xen.lab import XenLab, xen_lab
from centralita.lab.xen.qemu import GuestDisk
from tests.disks import overlay
from tests.repeats import KIND
from tests.targets.conftest import SECOND, selected
from tests.xen.conftest import DOWN_S, boot_s, takes_a_call

pytestmark = [pytest.mark.repeat, pytest.mark.xdist_group("xen")]

Record = Callable[[str, object], None]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A turn after another on each target, on two hosts side by side; without `--repeat` there are two."""
    second = pytest.mark.xdist_group("second host")
    targets = [target for target in selected(metafunc.config) if target in XEN_TARGETS]
    wanted = [pytest.param(target, marks=second) if target in SECOND else target for target in targets]
    metafunc.parametrize("kind", wanted, scope="module")
    metafunc.parametrize("turn", range(int(metafunc.config.getoption("--repeat")) or 2))


def disk(turn: int) -> str:
    """The name of a turn's disk in dom0."""
    return f"/dev/centralita/turn{turn}"


@pytest.fixture(scope="module")
def lab(prepared: Prepared, kind: XenTarget, many: int) -> Iterator[XenLab]:
    """A Xen host for the turns on one target."""
    folder = prepared.workdir / f"repeat-{kind}"
    folder.mkdir()
    disks = [GuestDisk(f"turn{n}", overlay(prepared, folder / f"turn{n}.qcow2"), disk(n)) for n in range(many)]
    with xen_lab(prepared, [kind], folder / "host", more_disks=disks) as ready:
        yield ready


def test_boots_and_takes_a_call_each_time(
    lab: XenLab, kind: XenTarget, turn: int, tmp_path: Path, record_property: Record
) -> None:
    record_property(KIND, kind)
    with lab.powered_on(kind, config=replace(lab.config(kind), disk=disk(turn))) as guest:
        answer = guest.machine.wait_sip(guest.address, timeout_s=boot_s(kind))
        record_property("sip_s", round(answer.seconds, 1))
        takes_a_call(guest, answer, tmp_path)
        record_property("shutdown_s", round(guest.machine.powerdown(timeout_s=DOWN_S), 1))
