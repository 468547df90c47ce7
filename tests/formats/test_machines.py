"""Each disk format on its hypervisor's hardware, in QEMU: the golden image takes a tenant, and calls."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from centralita.ground import accel
from centralita.ground.run import run
from centralita.image.build import Golden
from centralita.lab.firmware import Firmware
from centralita.lab.machine import Machine
from centralita.lab.net import LabNetwork
from centralita.lab.qemu import Board, DiskBus, MachineSpec
from centralita.lab.ssh import ssh_access
from tests.formats.conftest import BOOT_S, Formats, Seeded
from tests.formats.unpack import DRIVERS, taken_out

pytestmark = pytest.mark.xdist_group("formats")
TOOK = re.compile("centralita: took the tenant duo from /dev/")
Record = Callable[[str, object], None]

# The enlightenments that a Hyper-V guest sees. They are KVM's: emulated, QEMU refuses some ("kernel doesn't allow
# setting HyperV VP_INDEX") and shows none of the others, so there the machine has Hyper-V's devices only.
HYPER_V = "host,hv-relaxed,hv-vapic,hv-spinlocks=0x1fff,hv-vpindex,hv-time,hv-synic,hv-stimer,hv-runtime"


@dataclass(frozen=True)
class Case:
    """A format, and the machine that its hypervisor would make."""

    form: str
    bus: DiskBus
    nic: str
    module: str
    board: Board = "q35"
    firmware: Firmware = "bios"
    seed: str = "disc"
    hyper_v: bool = False


CASES = {
    "vmware": Case("ova", "pvscsi", "vmxnet3", "vmxnet3"),
    "virtualbox": Case("vdi", "ahci", "e1000", "e1000"),
    "virtual-pc": Case("vhd", "ide", "tulip", "tulip", board="pc"),
    "azure": Case("vhd-fixed", "ide", "rtl8139", "8139cp", board="pc", seed="disk"),
    # Generation 1 has IDE and a "legacy network adapter", the DEC 21140; generation 2's VMBus carries no disk in QEMU.
    "hyper-v-1": Case("vhd", "ide", "tulip", "tulip", board="pc", hyper_v=True),
    "hyper-v-2": Case("vhdx", "ahci", "e1000e", "e1000e", firmware="uefi-secure", hyper_v=True),
    "parallels": Case("hdd", "ahci", "virtio-net-pci", "virtio_net"),
    "xenserver": Case("xva", "ide", "rtl8139", "8139cp", board="pc"),
    "bhyve": Case("raw.zst", "ahci", "e1000", "e1000", firmware="uefi"),
    "proxmox": Case("qcow2", "virtio-scsi", "virtio-net-pci", "virtio_net", board="pc"),
    "kubevirt": Case("containerdisk", "virtio", "virtio-net-pci", "virtio_net", seed="disk"),
}


def medium(case: Case, seeded: Seeded) -> tuple[str, ...]:
    """QEMU's arguments for the tenant's disc or disk."""
    if case.seed == "disk":
        device = "ide-hd,bus=ide.1" if case.board == "pc" else "virtio-blk-pci"
        return ("-drive", f"file={seeded.disk},format=raw,if=none,id=seed,readonly=off,snapshot=on", "-device",
                f"{device},drive=seed")  # fmt: skip
    bus = {"pvscsi": "scsi0.0", "virtio-scsi": "scsi0.0"}.get(case.bus)
    device = "scsi-cd,bus=scsi0.0" if bus else ("ide-cd,bus=ide.1" if case.board == "pc" else "ide-cd,bus=ide.2")
    return ("-drive", f"file={seeded.disc},format=raw,if=none,id=seed,readonly=on,media=cdrom", "-device",
            f"{device},drive=seed")  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_boots_takes_a_tenant_and_answers(
    name: str,
    seeded: Seeded,
    formats: Formats,
    overlay: Callable[[Path, str], Path],
    golden: Golden,
    judged: Callable[[LabNetwork], None],
    tmp_path: Path,
    record_property: Record,
) -> None:
    case = CASES[name]
    enlightened = case.hyper_v and accel.probe().name == "kvm"
    disk = taken_out(case.form, formats(case.form)[0].path, tmp_path, golden.record.disk_size_bytes)
    run(["qemu-img", "compare", "-f", "qcow2", "-F", DRIVERS[case.form], golden.qcow2_path, disk])
    spec = MachineSpec(
        name=name, disk=overlay(disk, DRIVERS[case.form]), mac=seeded.identity.mac, memory_mib=golden.record.memory_mib,
        firmware=case.firmware, board=case.board, disk_bus=case.bus, nic_model=case.nic,
        cpu=HYPER_V if enlightened else None,
        extra_args=medium(case, seeded),
    )  # fmt: skip
    assert seeded.tenant.network.address is not None
    address = seeded.tenant.network.address.ip
    with (
        seeded.network() as network,
        ssh_access(network, address, seeded.identity, seeded.key, tmp_path) as ssh,
        Machine(spec, network, workdir=tmp_path / "machine") as machine,
    ):
        answer = machine.wait_sip(address, timeout_s=BOOT_S)
        record_property("first_sip_answer_s", round(answer.seconds, 1))
        assert machine.console.search(TOOK) is not None
        judged(network)
        driver = "basename $(readlink -f /sys/class/net/eth0/device/driver/module)"
        read = ssh.run(f"cat /etc/machine-id /proc/sys/kernel/hostname; {driver}").stdout.split()
        assert read == [seeded.identity.machine_id, "duo", case.module]
        if case.hyper_v:
            seen = ssh.run("systemd-detect-virt", check=False).stdout.strip()
            record_property("enlightenments", seen if enlightened else "not shown: they need KVM")
            assert not enlightened or seen == "microsoft"
        assert ssh.run("systemctl --failed --no-legend --plain").stdout == ""
