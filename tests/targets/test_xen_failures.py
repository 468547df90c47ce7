"""A guest that dies early is explained: at once, in words, with the last lines that it said."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from centralita.clone.xl import XenTarget, XlConfig
from centralita.ground.errors import CentralitaError
from centralita.lab.xen.dom0 import OWN_GRUB
from centralita.lab.xen.domain import XenDomain
from centralita.lab.xen.lab import XenLab
from tests.targets.conftest import BOOT_S

pytestmark = pytest.mark.xdist_group("xen")

# What the report may take after the event: the last words are waited for, and an emulated processor brings them.
AT_ONCE_S = 15.0
Record = Callable[[str, object], None]


def test_a_kernel_that_panics_is_seen_at_once(lab: XenLab) -> None:
    # Without an init in the initramfs the kernel looks for a disk driver that it has not loaded.
    options = ("mitigations=off", "rdinit=/nothing", "root=/dev/nothing", "earlyprintk=xen")
    with lab.powered_on("xen-pv", kernel_options=options) as guest:
        with pytest.raises(CentralitaError) as failure:
            guest.machine.wait_sip(guest.address, timeout_s=BOOT_S)
        assert "Kernel panic - not syncing" in failure.value.message
        assert "the guest's console:" in failure.value.message
        assert "mount_root" in failure.value.message  # the trace that explains it
        panicked = guest.machine.console.search(re.compile("Kernel panic"))
        assert panicked is not None
        assert time.monotonic() - guest.machine.console.seen_at(panicked.start()) < AT_ONCE_S


def spoiled(lab: XenLab, target: XenTarget, disk: str) -> XlConfig:
    """A target's domain with one of the spoiled disks."""
    return replace(lab.config(target), disk=f"/dev/centralita/{disk}", name=disk)


def failed(lab: XenLab, config: XlConfig, record_property: Record, event: str) -> str:
    """Boot what cannot come up; return what was said of it, at once after the console showed `event`."""
    with lab.powered_on(config.target, config=config) as guest:
        with pytest.raises(CentralitaError) as failure:
            guest.machine.wait_sip(guest.address, timeout_s=BOOT_S)
        found = guest.machine.console.search(re.compile(event))
        assert found is not None, failure.value.message
        told_s = time.monotonic() - guest.machine.console.seen_at(found.start())
        record_property("told_after_s", round(told_s, 1))
        assert told_s < AT_ONCE_S
    return failure.value.message


def test_an_initramfs_without_the_disk_s_driver_is_told(lab: XenLab, record_property: Record) -> None:
    event = r"no driver for the disk vbd-51712 \(xen-blkfront\)"
    message = failed(lab, spoiled(lab, "xen-pv", "no-blkfront"), record_property, event)
    assert "the initramfs lacks the disk's driver" in message
    assert "vbd-51712 (xen-blkfront)" in message


def test_a_panic_before_the_first_ordinary_console_line_is_told_with_its_trace(
    lab: XenLab, record_property: Record
) -> None:
    # The kernel's own bug on Zen processors, which the golden disk's command line avoids.
    message = failed(lab, spoiled(lab, "xen-pv", "early-panic"), record_property, "Kernel panic - not syncing")
    assert "Kernel panic - not syncing" in message
    assert "print_s5_reset_status_mmio" in message


@pytest.mark.parametrize("kind", ["broken-menu", "no-kernel"])
def test_a_broken_grub_cfg_is_told_by_pygrub(lab: XenLab, kind: str) -> None:
    domain = XenDomain(lab.host, spoiled(lab, "xen-pv", kind))
    started = time.monotonic()
    with pytest.raises(CentralitaError) as failure:
        domain.create()
    said = failure.value.message.partition("the boot loader said:")[2]
    assert re.search(r"Error|error|not found|Unable", said), failure.value.message
    assert time.monotonic() - started < 60


@pytest.mark.parametrize(
    ("kind", "event", "meaning"),
    [
        ("broken-menu", r"error: syntax error|^grub> ", "GRUB"),
        ("no-kernel", r"error: file `/boot/vmlinux-6' not found", "GRUB's menu is broken"),
    ],
)
def test_a_broken_grub_cfg_is_told_by_grub(
    lab: XenLab, kind: str, event: str, meaning: str, record_property: Record
) -> None:
    message = failed(lab, spoiled(lab, "xen-pvh-grub", kind), record_property, event)
    assert f"but {meaning}" in message


def test_an_older_grub_s_pv_loader_does_not_know_the_kernel_s_zstd(lab: XenLab) -> None:
    # Debian 12's grub-xen-host 2.06, as 13's 2.12. From 2.14 on it does: tests/xen/test_variants.py.
    config = replace(lab.config("xen-pvgrub"), grub=f"/{OWN_GRUB}/grub-x86_64-xen.bin")
    with (
        lab.powered_on("xen-pvgrub", config=config) as guest,
        pytest.raises(CentralitaError, match="error: not xen image"),
    ):
        guest.machine.wait_sip(guest.address, timeout_s=BOOT_S)


def test_a_disk_without_a_boot_menu_is_told_by_the_boot_loader(lab: XenLab) -> None:
    # dom0's own disk: a file system, and no menu.
    domain = XenDomain(lab.host, replace(lab.config("xen-pv"), disk="/dev/vda", name="empty"))
    started = time.monotonic()
    with pytest.raises(CentralitaError) as failure:
        domain.create()
    assert "the boot loader said:" in failure.value.message
    assert "Unable to find partition containing kernel" in failure.value.message
    assert time.monotonic() - started < 60


def test_a_disk_that_is_not_there_is_named(lab: XenLab) -> None:
    domain = XenDomain(lab.host, replace(lab.config("xen-pv"), disk="/dev/vg0/nothing", name="absent"))
    with pytest.raises(CentralitaError, match="/dev/vg0/nothing"):
        domain.create()
