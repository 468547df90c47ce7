"""What a lab machine is made of, and the QEMU command line that makes it: pure functions, nothing is started here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from centralita.ground.errors import CentralitaError
from centralita.lab.firmware import OVMF_DIR, OVMF_FILES, OVMF_VARS_COPY, Firmware

Board = Literal["q35", "pc"]
DiskBus = Literal["virtio", "virtio-scsi", "ahci", "ide", "pvscsi", "mptspi"]

QEMU = "qemu-system-x86_64"

CONSOLE_LOG = "console.log"
HVC0_LOG = "hvc0.log"
HVC0_SOCKET = "hvc0.sock"
QEMU_LOG = "qemu.log"

# How the disk hangs on each bus: the controller (if the board has none), and the drive on it.
_DISK_DEVICES: dict[DiskBus, tuple[str | None, str]] = {
    "virtio": (None, "virtio-blk-pci,drive=disk0"),
    "virtio-scsi": ("virtio-scsi-pci,id=scsi0", "scsi-hd,bus=scsi0.0,drive=disk0"),
    "ahci": ("ich9-ahci,id=sata0", "ide-hd,bus=sata0.0,drive=disk0"),
    "ide": (None, "ide-hd,bus=ide.0,drive=disk0"),
    "pvscsi": ("pvscsi,id=scsi0", "scsi-hd,bus=scsi0.0,drive=disk0"),
    "mptspi": ("lsi53c1030,id=scsi0", "scsi-hd,bus=scsi0.0,drive=disk0"),
}


@dataclass(frozen=True)
class DirectKernel:
    """Boot this kernel instead of the disk's boot loader. Guests never do; the Xen host does.

    For a multiboot kernel `initrd` is QEMU's list of modules: files with their arguments, separated by commas.
    """

    kernel: Path
    initrd: Path | str | None
    command_line: str


@dataclass(frozen=True)
class MachineSpec:
    """A machine of the lab. Everything has the values that a KVM host would give a small PBX."""

    name: str
    disk: Path
    mac: str
    disk_format: Literal["qcow2", "raw"] = "qcow2"
    data_disk: Path | None = None
    memory_mib: int = 512
    vcpus: int = 1
    firmware: Firmware = "bios"
    board: Board = "q35"
    disk_bus: DiskBus = "virtio"
    nic_model: str = "virtio-net-pci"
    uuid: str | None = None
    cpu: str | None = None
    direct_kernel: DirectKernel | None = None
    may_reset: bool = False
    hpet: bool = False
    qemu: tuple[str, ...] = (QEMU,)
    extra_args: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.firmware not in get_args(Firmware):
            raise CentralitaError(
                f"unknown firmware {self.firmware!r}", hint=f"it is one of {', '.join(get_args(Firmware))}"
            )
        if self.disk_bus not in get_args(DiskBus):
            raise CentralitaError(
                f"unknown disk bus {self.disk_bus!r}", hint=f"it is one of {', '.join(get_args(DiskBus))}"
            )
        if self.disk_bus == "ide" and self.board != "pc":
            raise CentralitaError("an IDE disk needs the board 'pc' (q35 has AHCI in its place)")
        if self.firmware == "uefi-secure" and self.board != "q35":
            raise CentralitaError("UEFI Secure Boot needs the board 'q35' (system management mode)")


@dataclass(frozen=True)
class Wiring:
    """What QEMU inherits and where it writes: descriptors, the tap, and its working directory."""

    workdir: Path
    qmp_fd: int
    serial_fd: int
    tap: str | None


def cpu_model(accelerator: str, wanted: str | None = None) -> str:
    """Return QEMU's CPU model for `accelerator` ("kvm" or "tcg"): all that the host, or the emulator, can do."""
    if wanted is not None:
        return wanted
    return "host" if accelerator == "kvm" else "max"


def qemu_argv(
    spec: MachineSpec, wiring: Wiring, *, accelerator: str, accelerator_args: Sequence[str], ovmf_dir: Path = OVMF_DIR
) -> list[str]:
    """Return QEMU's argument list for `spec`.

    QEMU is expected to run in `wiring.workdir`: logs and the hvc0 socket are named relative to it, because the
    address of a Unix socket has room for 107 bytes only.
    """
    machine = f"{spec.board},usb=off,vmport=off,hpet={'on' if spec.hpet else 'off'},dump-guest-core=off"
    if spec.firmware == "uefi-secure":
        machine += ",smm=on"
    argv = [
        *spec.qemu,
        *("-name", f"guest={spec.name.replace(chr(44), chr(44) * 2)}"),
        *("-machine", machine),
        *accelerator_args,
        *("-cpu", cpu_model(accelerator, spec.cpu)),
        *("-smp", str(spec.vcpus)),
        *("-m", f"{spec.memory_mib}M"),
        *("-nodefaults", "-no-user-config", "-display", "none", "-vga", "none"),
        *("-boot", "strict=on"),
        *("-rtc", "base=utc,driftfix=slew"),
    ]
    if spec.uuid is not None:
        argv += ["-uuid", spec.uuid]
    if not spec.may_reset:
        argv.append("-no-reboot")
    argv += _firmware_args(spec, wiring, ovmf_dir)
    argv += _disk_args(spec)
    if wiring.tap is not None:
        argv += [
            *("-netdev", f"tap,id=net0,ifname={wiring.tap},script=no,downscript=no,vhost=off"),
            # Without a ROM the firmware does not try to boot from the network.
            *("-device", f"{spec.nic_model},netdev=net0,mac={spec.mac},romfile="),
        ]
    argv += [
        *("-device", "virtio-rng-pci"),
        *("-chardev", f"socket,id=serial0,fd={wiring.serial_fd},logfile={CONSOLE_LOG},logappend=on"),
        *("-device", "isa-serial,chardev=serial0"),
        *("-device", "virtio-serial-pci"),
        *("-chardev", f"socket,id=hvc0,path={HVC0_SOCKET},server=on,wait=off,logfile={HVC0_LOG},logappend=on"),
        *("-device", "virtconsole,chardev=hvc0"),
        *("-chardev", f"socket,id=qmp,fd={wiring.qmp_fd}"),
        *("-mon", "chardev=qmp,mode=control"),
    ]
    if spec.direct_kernel is not None:
        argv += ["-kernel", str(spec.direct_kernel.kernel), "-append", spec.direct_kernel.command_line]
        if spec.direct_kernel.initrd is not None:
            argv += ["-initrd", str(spec.direct_kernel.initrd)]
    return [*argv, *spec.extra_args]


def _blockdev(**options: object) -> list[str]:
    # As JSON, a path may hold commas and spaces.
    return ["-blockdev", json.dumps({key.replace("_", "-"): value for key, value in options.items()})]


def _disk_args(spec: MachineSpec) -> list[str]:
    # The overlay is thrown away after the test, so nothing is gained by flushing it to the host's disk.
    cache = {"direct": False, "no-flush": True}
    controller, drive = _DISK_DEVICES[spec.disk_bus]
    data: list[str] = []
    if spec.data_disk is not None:
        name = str(spec.data_disk.absolute())
        data = _blockdev(driver="file", node_name="data-file", filename=name, cache=cache, discard="unmap")
        data += _blockdev(driver="raw", node_name="data", file="data-file", cache=cache, discard="unmap")
        data += ["-device", "virtio-blk-pci,drive=data"]
    return [
        *_blockdev(
            driver="file", node_name="disk0-file", filename=str(spec.disk.absolute()), cache=cache, discard="unmap"
        ),
        *_blockdev(driver=spec.disk_format, node_name="disk0", file="disk0-file", cache=cache, discard="unmap"),
        *(("-device", controller) if controller is not None else ()),
        # A kernel given on the command line boots by an option ROM that claims the first place for itself.
        *("-device", drive if spec.direct_kernel is not None else f"{drive},bootindex=0"),
        *data,
    ]


def _firmware_args(spec: MachineSpec, wiring: Wiring, ovmf_dir: Path) -> list[str]:
    if spec.firmware == "bios":
        return []
    code, _ = OVMF_FILES[spec.firmware]
    args = [
        *_blockdev(driver="file", node_name="code-file", filename=str(ovmf_dir / code), read_only=True),
        *_blockdev(driver="raw", node_name="code", file="code-file", read_only=True),
        *_blockdev(driver="file", node_name="vars-file", filename=str(wiring.workdir.absolute() / OVMF_VARS_COPY)),
        *_blockdev(driver="raw", node_name="vars", file="vars-file"),
    ]
    machine = ["-machine", "pflash0=code,pflash1=vars"]
    if spec.firmware == "uefi-secure":
        # Only code in system management mode may write the variables, else the guest could switch Secure Boot off.
        machine += ["-global", "driver=cfi.pflash01,property=secure,value=on", "-global", "ICH9-LPC.disable_s3=1"]
    return [*args, *machine]
