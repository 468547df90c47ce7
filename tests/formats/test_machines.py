"""Each disk format on its hypervisor's hardware, in QEMU: the golden image takes a tenant, and calls."""

from __future__ import annotations

import re
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from centralita.formats.make import FormatFile
from centralita.ground.run import run
from centralita.image.build import Golden
from centralita.lab.firmware import Firmware
from centralita.lab.machine import Machine
from centralita.lab.net import LabNetwork
from centralita.lab.qemu import Board, DiskBus, MachineSpec
from centralita.lab.ssh import ssh_access
from tests.formats.conftest import BOOT_S, Formats, Seeded

pytestmark = pytest.mark.xdist_group("formats")
TOOK = re.compile("centralita: took the tenant duo from /dev/")
Record = Callable[[str, object], None]

# The enlightenments that a Hyper-V guest sees. QEMU 7.2's VMBus carries no disk: that is AHCI, as is the card e1000e.
HYPER_V = "max,hv-relaxed,hv-vapic,hv-spinlocks=0x1fff,hv-vpindex,hv-time,hv-synic,hv-stimer,hv-runtime"


@dataclass(frozen=True)
class Case:
    """A format, and the machine that its hypervisor would make."""

    form: str
    driver: str
    bus: DiskBus
    nic: str
    module: str
    board: Board = "q35"
    firmware: Firmware = "bios"
    seed: str = "disc"
    cpu: str | None = None


CASES = {
    "vmware": Case("ova", "vmdk", "pvscsi", "vmxnet3", "vmxnet3"),
    "virtualbox": Case("vdi", "vdi", "ahci", "e1000", "e1000"),
    "virtual-pc": Case("vhd", "vpc", "ide", "tulip", "tulip", board="pc"),
    "azure": Case("vhd-fixed", "vpc", "ide", "rtl8139", "8139cp", board="pc", seed="disk"),
    "hyper-v": Case("vhdx", "vhdx", "ahci", "e1000e", "e1000e", firmware="uefi-secure"),
    "parallels": Case("hdd", "parallels", "ahci", "virtio-net-pci", "virtio_net"),
    "xenserver": Case("xva", "raw", "ide", "rtl8139", "8139cp", board="pc"),
    "incus-vm": Case("qcow2", "qcow2", "virtio-scsi", "virtio-net-pci", "virtio_net", firmware="uefi-secure"),
    "kubevirt": Case("containerdisk", "qcow2", "virtio", "virtio-net-pci", "virtio_net", seed="disk"),
}


def disk_of(case: Case, file: FormatFile, folder: Path) -> Path:
    """Unpack what the hypervisor's own tool would unpack."""
    if case.form == "vhd-fixed":
        disk = folder / "disk.vhd"
        run(["zstd", "-q", "-d", file.path, "-o", disk])
        return disk
    if case.form in ("ova", "hdd"):
        with tarfile.open(file.path) as tar:
            member = next(m for m in tar if m.name.endswith((".vmdk", ".hds")))
            stream = tar.extractfile(member)
            assert stream is not None
            with (folder / "disk").open("wb") as out:
                shutil.copyfileobj(stream, out)
        return folder / "disk"
    if case.form == "xva":
        return from_xva(file.path, folder / "disk.raw", file.virtual_size_bytes)
    if case.form == "containerdisk":
        with tarfile.open(file.path) as tar:
            layer = max(tar.getmembers(), key=lambda m: m.size)
            stream = tar.extractfile(layer)
            assert stream is not None
            with tarfile.open(fileobj=stream) as inner:
                found = inner.extractfile(next(m for m in inner if m.isreg()))
                assert found is not None
                with (folder / "disk").open("wb") as out:
                    shutil.copyfileobj(found, out)
        return folder / "disk"
    return file.path


def from_xva(path: Path, disk: Path, size_bytes: int) -> Path:
    """Put the pieces of an XVA together, as xapi does."""
    with tarfile.open(path) as tar, disk.open("wb") as out:
        out.truncate(size_bytes)
        for member in tar:
            name = member.name.rpartition("/")[2]
            if name.isdigit():
                stream = tar.extractfile(member)
                assert stream is not None
                out.seek(int(name) << 20)
                out.write(stream.read())
    return disk


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
    disk = disk_of(case, formats(case.form)[0], tmp_path)
    run(["qemu-img", "compare", "-f", "qcow2", "-F", case.driver, golden.qcow2_path, disk])
    spec = MachineSpec(
        name=name, disk=overlay(disk, case.driver), mac=seeded.identity.mac, memory_mib=golden.record.memory_mib,
        firmware=case.firmware, board=case.board, disk_bus=case.bus, nic_model=case.nic, cpu=case.cpu,
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
        assert ssh.run("systemctl --failed --no-legend --plain").stdout == ""
