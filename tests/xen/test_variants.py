"""What is not a row of the matrix: other processors' counts, UEFI, another Xen, and what the lab's options give."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from centralita.clone.inject import inject
from centralita.clone.xl import XenTarget, XlConfig
from centralita.ground.errors import CentralitaError
from centralita.lab.guest import Prepared
from centralita.lab.options import EMULATION_OPTIONS
from centralita.lab.xen.dom0 import DOM0_420, OVMF, OWN_GRUB
from centralita.lab.xen.dom0 import dom0 as made_dom0
from centralita.lab.xen.lab import XenGuest, XenLab, xen_lab
from centralita.lab.xen.qemu import GuestDisk
from tests.disks import overlay
from tests.xen.conftest import DOWN_S, boot_s, takes_a_call
from tests.xen.elf_kernel import elf_kernel_files

pytestmark = pytest.mark.xdist_group("xen")

TARGETS: tuple[XenTarget, ...] = ("xen-pv", "xen-pvgrub", "xen-pvh", "xen-hvm")
ELF_DISK = "/dev/centralita/elf"
BOOTING: tuple[XenTarget, ...] = ("xen-pv", "xen-pvh", "xen-hvm")
Record = Callable[[str, object], None]


@pytest.fixture(scope="module")
def lab(prepared: Prepared) -> Iterator[XenLab]:
    """A Xen host for them all, with a disk that holds an ELF kernel too."""
    disk = overlay(prepared, prepared.workdir / "elf-kernel.qcow2")
    inject([(disk, elf_kernel_files(prepared))])
    more = [GuestDisk("elf", disk, ELF_DISK)]
    with xen_lab(prepared, TARGETS, prepared.workdir / "variants", more_disks=more, more_mib=256) as ready:
        yield ready


def called(
    lab: XenLab, config: XlConfig, folder: Path, record_property: Record, look: Callable[[XenGuest], None] | None = None
) -> None:
    """Boot it, look at it, call through it, and shut it down."""
    with lab.powered_on(config.target, config=config) as guest:
        answer = guest.machine.wait_sip(guest.address, timeout_s=boot_s(config.target))
        record_property("sip_s", round(answer.seconds, 1))
        if look is not None:
            look(guest)
        takes_a_call(guest, answer, folder)
        guest.machine.powerdown(timeout_s=DOWN_S)


@pytest.mark.parametrize("kind", ["xen-pv", "xen-pvh"])
def test_two_processors(lab: XenLab, kind: XenTarget, tmp_path: Path, record_property: Record) -> None:
    def two(guest: XenGuest) -> None:
        assert guest.ssh.run("nproc").stdout.strip() == "2"

    called(lab, replace(lab.config(kind), vcpus=2), tmp_path, record_property, two)


def test_pv_by_the_older_grub_and_an_elf_kernel(lab: XenLab, tmp_path: Path, record_property: Record) -> None:
    config = replace(lab.config("xen-pvgrub"), disk=ELF_DISK, grub=f"/{OWN_GRUB}/grub-x86_64-xen.bin")
    called(lab, config, tmp_path, record_property)


@pytest.mark.xfail(reason="the kernel starts, but not the system: docs/xen.md", raises=CentralitaError)
def test_pv_by_grub_2_14(lab: XenLab, tmp_path: Path, record_property: Record) -> None:
    # The day that this passes, it fails as such: then xen-pvgrub becomes a row of the matrix.
    called(lab, lab.config("xen-pvgrub"), tmp_path, record_property)


@pytest.mark.xfail(reason="QEMU 7.2 ends itself while the firmware runs: docs/xen.md", raises=CentralitaError)
def test_hvm_by_uefi(prepared: Prepared, tmp_path: Path, record_property: Record) -> None:
    def by_uefi(guest: XenGuest) -> None:
        assert guest.ssh.run("test -d /sys/firmware/efi && cat /sys/hypervisor/guest_type").stdout.strip() == "HVM"

    # A host of its own: the others' would end with it.
    with xen_lab(prepared, ["xen-hvm"], prepared.workdir / "uefi", more_mib=256) as lab:
        called(lab, replace(lab.config("xen-hvm"), uefi=f"/{OVMF}"), tmp_path, record_property, by_uefi)


OPTIONS = {
    "the lab's": EMULATION_OPTIONS,
    "none": (),
    "mitigations=off": ("mitigations=off",),
    "the lab's and loglevel=3": (*EMULATION_OPTIONS, "loglevel=3"),
}


@pytest.mark.parametrize("options", list(OPTIONS))
@pytest.mark.parametrize("kind", ["xen-pv", "xen-pvh"])
def test_what_the_lab_s_kernel_options_give(
    lab: XenLab, kind: XenTarget, options: str, record_property: Record
) -> None:
    with lab.powered_on(kind, kernel_options=OPTIONS[options]) as guest:
        answer = guest.machine.wait_sip(guest.address, timeout_s=boot_s(kind))
        record_property("sip_s", round(answer.seconds, 1))
        words = guest.ssh.run("cat /proc/cmdline").stdout.split()
        assert set(OPTIONS[options]) <= set(words)
        guest.machine.powerdown(timeout_s=DOWN_S)


@pytest.fixture(scope="module")
def newer(prepared: Prepared) -> Iterator[XenLab]:
    """A host with Debian 13's Xen 4.20."""
    folder = prepared.workdir / "newer"
    with xen_lab(prepared, TARGETS, folder, more_mib=256, dom0=made_dom0(DOM0_420)) as ready:
        yield ready


@pytest.mark.parametrize("kind", BOOTING)
def test_xen_4_20(newer: XenLab, kind: XenTarget, tmp_path: Path, record_property: Record) -> None:
    assert "4.20" in newer.host.xl("info").stdout
    record_property("host_ready_s", round(newer.ready_s, 1))
    called(newer, newer.config(kind), tmp_path, record_property)
