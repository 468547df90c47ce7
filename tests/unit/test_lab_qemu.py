"""QEMU's command line: what each firmware, board and bus asks for. Nothing is started."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import pytest

from centralita.ground.errors import CentralitaError
from centralita.lab.qemu import DirectKernel, MachineSpec, Wiring, cpu_model, qemu_argv

SPEC = MachineSpec(name="duo", disk=Path("/tmp/a, b/duo.qcow2"), mac="52:54:00:12:34:56")
WIRING = Wiring(workdir=Path("/tmp/lab dir"), qmp_fd=11, serial_fd=12, tap="tap0")
TCG = ("-accel", "tcg,thread=multi")


def argv_of(spec: MachineSpec, wiring: Wiring = WIRING) -> list[str]:
    return qemu_argv(spec, wiring, accelerator="tcg", accelerator_args=TCG)


def values(argv: list[str], option: str) -> list[str]:
    return [value for name, value in itertools.pairwise(argv) if name == option]


def blockdevs(argv: list[str]) -> dict[str, dict[str, object]]:
    return {device["node-name"]: device for device in map(json.loads, values(argv, "-blockdev"))}


def test_a_path_with_comma_and_space_reaches_qemu_unchanged() -> None:
    devices = blockdevs(argv_of(SPEC))
    assert devices["disk0-file"]["filename"] == "/tmp/a, b/duo.qcow2"
    assert devices["disk0"]["driver"] == "qcow2"


def test_a_data_disk_is_a_second_disk_and_not_booted_from() -> None:
    argv = argv_of(replace(SPEC, data_disk=Path("/tmp/data.raw")))
    devices = blockdevs(argv)
    assert (devices["data"]["driver"], devices["data-file"]["filename"]) == ("raw", "/tmp/data.raw")
    assert [word for word in values(argv, "-device") if "virtio-blk" in word] == [
        "virtio-blk-pci,drive=disk0,bootindex=0",
        "virtio-blk-pci,drive=data",
    ]


def test_nothing_of_the_host_is_taken_by_default_and_logs_are_relative() -> None:
    argv = argv_of(SPEC)
    assert {"-nodefaults", "-no-user-config", "-no-reboot"} <= set(argv)
    assert values(argv, "-vga") == ["none"]
    # The folder may be deeper than the 107 bytes of a Unix socket's address.
    assert not any(str(WIRING.workdir) in value for value in values(argv, "-chardev"))


def test_disk_network_and_size_are_as_asked() -> None:
    argv = argv_of(
        replace(SPEC, memory_mib=1024, vcpus=2, nic_model="e1000e", uuid="7c2e0d3e-0000-4000-8000-000000000001")
    )
    assert values(argv, "-m") == ["1024M"]
    assert values(argv, "-smp") == ["2"]
    assert values(argv, "-uuid") == ["7c2e0d3e-0000-4000-8000-000000000001"]
    assert values(argv, "-netdev") == ["tap,id=net0,ifname=tap0,script=no,downscript=no,vhost=off"]
    assert "e1000e,netdev=net0,mac=52:54:00:12:34:56,romfile=" in values(argv, "-device")


def test_without_a_tap_there_is_no_network_card() -> None:
    argv = argv_of(SPEC, replace(WIRING, tap=None))
    assert not any("netdev" in word for word in argv)


@pytest.mark.parametrize(
    ("firmware", "code", "secure"),
    [("uefi", "OVMF_CODE_4M.fd", False), ("uefi-secure", "OVMF_CODE_4M.secboot.fd", True)],
)
def test_uefi_has_read_only_code_and_its_own_variables(firmware: str, code: str, secure: bool) -> None:
    argv = argv_of(replace(SPEC, firmware=firmware))  # type: ignore[arg-type]
    devices = blockdevs(argv)
    assert str(devices["code-file"]["filename"]).endswith(code)
    assert devices["code"]["read-only"] is True
    assert str(devices["vars-file"]["filename"]).startswith(str(WIRING.workdir))
    assert ("driver=cfi.pflash01,property=secure,value=on" in values(argv, "-global")) is secure
    assert any("smm=on" in value for value in values(argv, "-machine")) is secure


@pytest.mark.parametrize(
    ("bus", "board", "expected"),
    [
        ("virtio", "q35", "virtio-blk-pci,drive=disk0,bootindex=0"),
        ("virtio-scsi", "q35", "scsi-hd,bus=scsi0.0,drive=disk0,bootindex=0"),
        ("ahci", "q35", "ide-hd,bus=sata0.0,drive=disk0,bootindex=0"),
        ("ide", "pc", "ide-hd,bus=ide.0,drive=disk0,bootindex=0"),
    ],
)
def test_the_disk_hangs_on_the_bus_asked_for(bus: str, board: str, expected: str) -> None:
    argv = argv_of(replace(SPEC, disk_bus=bus, board=board))  # type: ignore[arg-type]
    assert expected in values(argv, "-device")


def test_a_direct_kernel_leaves_the_boot_order_alone() -> None:
    argv = argv_of(replace(SPEC, direct_kernel=DirectKernel(Path("/k"), Path("/i"), "console=ttyS0")))
    assert values(argv, "-kernel") == ["/k"]
    assert values(argv, "-append") == ["console=ttyS0"]
    assert not any("bootindex" in word for word in argv)


@pytest.mark.parametrize(
    "change",
    [{"firmware": "coreboot"}, {"disk_bus": "floppy"}, {"disk_bus": "ide"}, {"firmware": "uefi-secure", "board": "pc"}],
)
def test_what_cannot_work_is_refused(change: dict[str, str]) -> None:
    with pytest.raises(CentralitaError):
        replace(SPEC, **change)  # type: ignore[arg-type]


def test_the_processor_is_the_host_s_or_all_that_can_be_emulated() -> None:
    assert cpu_model("kvm") == "host"
    assert cpu_model("tcg") == "max"
    assert cpu_model("tcg", "Nehalem") == "Nehalem"
