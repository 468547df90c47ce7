"""The same golden disk on other firmware and hardware, with nobody's configuration, and on a disk that has grown.

These boots take only the processor time that the shared clone and its phones leave.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from centralita.clone.identity import IdentityStore
from centralita.ground.run import run
from centralita.image.build import Golden
from centralita.lab import sip
from centralita.lab.guest import DHCP_ADDRESS, Guest, Hardware, Prepared, powered_on, prepare
from centralita.lab.machine import Machine
from centralita.lab.net import LabNetwork
from centralita.lab.options import EMULATION_OPTIONS, lab_cfg
from centralita.lab.qemu import QEMU, MachineSpec
from centralita.spec.tenant import Network, Tenant
from tests.conftest import BOOT_S

pytestmark = [pytest.mark.targets, pytest.mark.xdist_group("boots")]

# Long boots of a clone of their own: a group apart, which whichever worker is free first takes.
GROWTH = pytest.mark.xdist_group("growth")
BACKGROUND = Hardware(background=True)
MIB = 1024 * 1024
SILENCE_S = 10
# GUID of the variables that UEFI defines itself (UEFI specification 2.10, 3.3).
SECURE_BOOT_VARIABLE = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
Record = Callable[[str, object], None]


@pytest.fixture(scope="module")
def spare(golden: Golden, duo: Tenant, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """A clone of its own, booted on one hardware after the other."""
    workdir = tmp_path_factory.mktemp("spare")
    return prepare(golden, duo, workdir, IdentityStore(workdir / "identities"))


def wait_up(guest: Guest) -> None:
    """Wait for the line that the system prints when it is up."""
    guest.machine.wait_console(r"^centralita: up, tenant duo$", timeout_s=BOOT_S)


@pytest.mark.parametrize(("firmware", "secure"), [("uefi", False), ("uefi-secure", True)])
def test_uefi_boots_to_the_first_answer(spare: Prepared, firmware: str, secure: bool, record_property: Record) -> None:
    hardware = replace(BACKGROUND, firmware=firmware)  # type: ignore[arg-type]
    with powered_on(spare, hardware, name=firmware) as guest:
        answer = guest.machine.wait_sip(guest.address, timeout_s=BOOT_S)
        record_property("first_sip_answer_s", round(answer.seconds, 1))
        wait_up(guest)
        assert guest.ssh.run("test -d /sys/firmware/efi && echo UEFI").stdout.strip() == "UEFI"
        # Four bytes of attributes, then the value. Firmware that cannot do it (Debian 13's plain OVMF) has no variable.
        value = guest.ssh.run(f"od -An -v -t u1 -j 4 {SECURE_BOOT_VARIABLE}", check=False).stdout.strip()
        assert value == "1" if secure else value in ("0", "")
        messages = guest.ssh.run("dmesg").stdout
        assert f"secureboot: Secure boot {'enabled' if secure else 'disabled'}" in messages
        guest.machine.powerdown()


@pytest.mark.parametrize(
    "hardware",
    [
        pytest.param(replace(BACKGROUND, board="pc", disk_bus="ide", nic_model="e1000"), id="ata_piix-e1000"),
        pytest.param(replace(BACKGROUND, disk_bus="ahci", nic_model="e1000e"), id="ahci-e1000e"),
        pytest.param(replace(BACKGROUND, disk_bus="pvscsi", nic_model="vmxnet3"), id="pvscsi-vmxnet3"),
        pytest.param(replace(BACKGROUND, disk_bus="virtio-scsi", nic_model="rtl8139"), id="virtio_scsi-rtl8139"),
    ],
)
def test_other_hardware_boots_to_the_first_answer(spare: Prepared, hardware: Hardware, record_property: Record) -> None:
    name = f"{hardware.disk_bus}-{hardware.nic_model}"
    with powered_on(spare, hardware, name=name) as guest:
        answer = guest.machine.wait_sip(guest.address, timeout_s=BOOT_S)
        record_property("first_sip_answer_s", round(answer.seconds, 1))
        wait_up(guest)
        guest.machine.powerdown()


def said_on(console: socket.socket, command: str) -> str:
    """Type a command on a console and return what comes back until the shell says that it is done."""
    console.settimeout(60)
    console.sendall(f"{command}; echo done-$((6*7))\n".encode())
    heard = b""
    while b"done-42" not in heard:
        heard += console.recv(4096)
    return heard.decode("utf-8", "replace")


def test_dhcp_and_a_console_where_the_tenant_wants_them(golden: Golden, duo: Tenant, tmp_path: Path) -> None:
    wanted = {"network": Network.model_validate({"method": "dhcp"}), "console": "autologin"}
    tenant = duo.model_copy(update=wanted)
    prepared = prepare(golden, tenant, tmp_path, IdentityStore(tmp_path / "identities"))
    with powered_on(prepared, BACKGROUND) as guest:
        answer = guest.machine.wait_sip(DHCP_ADDRESS, timeout_s=BOOT_S)
        assert answer.status == 401
        guest.machine.wait_console(r"root@duo:~# ?$", timeout_s=BOOT_S)
        start = len(guest.machine.console.text)
        guest.machine.send("id -un; tty\n")
        guest.machine.wait_console(r"^root\n/dev/ttyS0$", timeout_s=60, start=start)
        with guest.machine.open_hvc0() as console:
            assert "/dev/hvc0" in said_on(console, "tty")
        # On these two and on no screen.
        logins = guest.ssh.run("ps -C bash,agetty,login -o tty=").stdout.split()
        assert set(logins) <= {"ttyS0", "hvc0", "?"}
        guest.machine.powerdown()


def test_without_a_tenant_it_comes_up_and_answers_nobody(golden: Golden, tmp_path: Path) -> None:
    overlay = tmp_path / "blank.qcow2"
    run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", golden.qcow2_path.resolve(), overlay])
    guest_address = IPv4Address("198.51.100.10")
    mac = "52:54:00:00:00:0a"
    with LabNetwork(IPv4Network("198.51.100.0/24"), taken=[guest_address]) as network:
        spec = MachineSpec(
            name="blank", disk=overlay, mac=mac, memory_mib=golden.record.memory_mib, qemu=("nice", "-n", "15", QEMU)
        )
        with Machine(spec, network, workdir=tmp_path / "machine") as machine:
            machine.wait_console(r"^centralita: up, no tenant: it answers nobody$", timeout_s=BOOT_S)
            # Whoever knows its hardware address can send to it, whatever addresses it has.
            neighbour = ["ip", "neighbour", "add", str(guest_address), "lladdr", mac, "dev", "br0"]
            run(network.argv(neighbour))
            for _ in range(SILENCE_S):
                assert sip.ping(network, guest_address, timeout_s=1.0) is None
            assert not network.tcp_open(guest_address, 22)
            assert not network.tcp_open(guest_address, 5060)
            assert "login:" not in machine.console.text
            machine.powerdown()


@pytest.fixture(scope="module")
def growing(golden: Golden, duo: Tenant, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """A clone of its own whose journal is shown on the console: what it does while it boots can be waited for."""
    workdir = tmp_path_factory.mktemp("growing")
    options = (*EMULATION_OPTIONS, "systemd.journald.forward_to_console=1")
    shown = lab_cfg(golden.record.kernel_cmdline, options)
    return prepare(golden, duo, workdir, IdentityStore(workdir / "identities"), lab_options=False, extra=[shown])


def enlarge(prepared: Prepared, by_mib: int) -> int:
    """Make the clone's disk larger, as an admin of a hypervisor does, and return its size in MiB."""
    run(["qemu-img", "resize", "-q", prepared.clone.disk, f"+{by_mib}M"])
    return _disk_mib(prepared)


def _disk_mib(prepared: Prepared) -> int:
    shown = run(["qemu-img", "info", "--output=json", prepared.clone.disk]).stdout
    size = next(line for line in shown.splitlines() if line.startswith('    "virtual-size"'))
    return int("".join(filter(str.isdigit, size))) // MIB


def assert_grown(guest: Guest, disk_mib: int) -> None:
    """The partition table is whole, and the root file system fills all but what comes before it and its own tables."""
    ssh = guest.ssh
    assert int(ssh.run("cat /sys/block/vda/size").stdout) * 512 // MIB == disk_mib
    assert "No errors detected" in ssh.run("sfdisk --verify /dev/vda 2>&1").stdout
    first, sectors = (int(ssh.run(f"cat /sys/block/vda/vda3/{name}").stdout) for name in ("start", "size"))
    # Alignment and the backup table take less than 2 MiB at the end.
    assert (first + sectors) * 512 > (disk_mib - 2) * MIB
    blocks, block_bytes = map(int, ssh.run("stat -f -c '%b %S' /").stdout.split())
    # What statfs(2) counts lacks inode tables and the journal.
    assert blocks * block_bytes > 0.9 * sectors * 512
    assert "EXT4-fs error" not in ssh.run("dmesg").stdout
    ssh.run("sync; dd if=/dev/zero of=/var/tmp/filler bs=1M count=64 status=none && rm /var/tmp/filler")


@GROWTH
def test_root_grows_at_any_boot_where_the_disk_is_larger(growing: Prepared) -> None:
    for turn in (1, 2):
        disk_mib = enlarge(growing, 512)
        with powered_on(growing, BACKGROUND, name=f"grow{turn}") as guest:
            wait_up(guest)
            assert_grown(guest, disk_mib)
            guest.machine.powerdown()


@GROWTH
@pytest.mark.parametrize("moment", ["moving the backup GPT", "growing partition", "growing the file system"])
def test_a_power_cut_while_growing_is_repaired_at_the_next_boot(growing: Prepared, moment: str) -> None:
    disk_mib = enlarge(growing, 256)
    name = moment.replace(" ", "-")
    with powered_on(growing, BACKGROUND, name=f"cut-{name}") as guest:
        guest.machine.wait_console(f"grow-root: {moment}", timeout_s=BOOT_S)
        guest.machine.kill()
    with powered_on(growing, BACKGROUND, name=f"after-{name}") as guest:
        wait_up(guest)
        assert_grown(guest, disk_mib)
        guest.machine.powerdown()
