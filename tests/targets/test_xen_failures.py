"""A guest that dies early is explained: at once, in words, with the last lines that it said."""

from __future__ import annotations

import re
import time
from dataclasses import replace

import pytest

from centralita.ground.errors import CentralitaError
from centralita.lab.xen.domain import XenDomain
from centralita.lab.xen.lab import XenLab

pytestmark = pytest.mark.xdist_group("xen")

# What the report may take after the event: the last words are waited for, and an emulated processor brings them.
AT_ONCE_S = 12.0


def test_a_kernel_that_panics_is_seen_at_once(lab: XenLab) -> None:
    # Without an init in the initramfs the kernel looks for a disk driver that it has not loaded.
    options = ("mitigations=off", "rdinit=/nothing", "root=/dev/nothing", "earlyprintk=xen")
    with lab.powered_on("xen-pv", kernel_options=options) as guest:
        with pytest.raises(CentralitaError) as failure:
            guest.machine.wait_sip(guest.address, timeout_s=300)
        assert "Kernel panic - not syncing" in failure.value.message
        assert "the guest's console:" in failure.value.message
        assert "mount_root" in failure.value.message  # the trace that explains it
        panicked = guest.machine.console.search(re.compile("Kernel panic"))
        assert panicked is not None
        assert time.monotonic() - guest.machine.console.seen_at(panicked.start()) < AT_ONCE_S


def test_grub_s_pv_loader_does_not_know_the_kernel_s_zstd(lab: XenLab) -> None:
    # Debian 12's grub-xen-host 2.06. The day that this fails, xen-pvgrub is a row of the matrix.
    with lab.powered_on("xen-pvgrub") as guest, pytest.raises(CentralitaError, match="error: not xen image"):
        guest.machine.wait_sip(guest.address, timeout_s=300)


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
