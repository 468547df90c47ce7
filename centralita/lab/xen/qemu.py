"""The emulated machine under the Xen host: which QEMU, which processor, which boot. Nothing is started here.

What each word of the processor's model avoids is told in docs/xen.md.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from centralita.ground import accel
from centralita.ground.accel import Accelerator
from centralita.lab.qemu import DirectKernel, MachineSpec
from centralita.lab.xen.dom0 import Dom0
from centralita.packages.tools import ToolsTree, tools_tree

CONTROL_SOCKET = "dom0.sock"
CONTROL_PORT = "org.centralita.dom0"
KERNEL, INITRAMFS, DISK = "vmlinuz", "initrd.img", "dom0.qcow2"

EMULATED_CPU = "EPYC,+svm,+npt,-smap,-monitor,-rdtscp,-xsave,-avx,-avx2,-fma,-f16c"
EMULATED = Accelerator("tcg", "Xen's host is emulated", ("-accel", "tcg,thread=multi"))
KVM_MODULES = Path("/sys/module")
DOM0_MIB = 384
XEN_MIB = 128
# One processor: the emulator runs them in turn all the same. noreboot: a crash must stay on the console.
XEN_OPTIONS = (
    "console=com1", "com1=115200,8n1", f"dom0_mem={DOM0_MIB}M,max:{DOM0_MIB}M", "dom0_max_vcpus=1", "noreboot",
    "spec-ctrl=no", "loglvl=warning", "guest_loglvl=warning", "cpufreq=none", "watchdog=0",
)  # fmt: skip
DOM0_OPTIONS = ("console=hvc0", "net.ifnames=0", "mitigations=off", "audit=0", "nowatchdog", "quiet")


@dataclass(frozen=True)
class GuestDisk:
    """A disk for a guest, and the name that it gets in dom0. Two hosts may hold a `shared` one (raw)."""

    serial: str
    path: Path
    name: str
    form: Literal["qcow2", "raw"] = "qcow2"
    shared: bool = False


def host_accelerator() -> Accelerator:
    """What runs the Xen host: KVM where it works and its guests may have guests of their own, else emulation."""
    found = accel.probe()
    switches = [KVM_MODULES / name / "parameters/nested" for name in ("kvm_amd", "kvm_intel")]
    nested = any(switch.is_file() and switch.read_text().strip() in ("1", "Y") for switch in switches)
    return found if found.name == "kvm" and nested else EMULATED


def pinned_qemu() -> tuple[ToolsTree, tuple[str, ...]]:
    """The tools tree with the QEMU that emulates nested paging rightly, and the start of its argument list."""
    tree = tools_tree("qemu72")
    modules = tree.root / "usr/lib/x86_64-linux-gnu/qemu"
    firmware = ("usr/share/qemu", "usr/share/seabios")
    return tree, (
        "env", f"QEMU_MODULE_DIR={modules}", *tree.command("qemu-system-x86_64"),
        *(word for folder in firmware for word in ("-L", str(tree.root / folder))),
    )  # fmt: skip


def host_spec(
    dom0: Dom0,
    workdir: Path,
    mac: str,
    disks: Sequence[GuestDisk],
    guests_mib: int,
    vcpus: int = 1,
    accelerator: Accelerator = EMULATED,
) -> MachineSpec:
    """The machine. Kernel, initramfs and dom0's overlay are looked for in `workdir`, where QEMU runs."""
    modules = f"{KERNEL} {' '.join(DOM0_OPTIONS)},{INITRAMFS}"
    _, qemu = pinned_qemu()
    return MachineSpec(
        name="xen-host",
        disk=workdir / DISK,
        mac=mac,
        memory_mib=XEN_MIB + DOM0_MIB + guests_mib,
        vcpus=vcpus,
        cpu=EMULATED_CPU if accelerator.name == "tcg" else accelerator.cpu,
        # Xen else counts by a timer that wraps after 4.7 s, and loses them where a crowded host stops it so long.
        hpet=True,
        direct_kernel=DirectKernel(dom0.xen, modules, " ".join(XEN_OPTIONS)),
        qemu=qemu,
        extra_args=(
            *("-chardev", f"socket,id=dom0,path={CONTROL_SOCKET},server=on,wait=off"),
            *("-device", f"virtserialport,chardev=dom0,name={CONTROL_PORT}"),
            *(word for disk in disks for word in disk_args(disk)),
        ),
    )


def disk_args(disk: GuestDisk) -> list[str]:
    """A further virtio disk of the host."""
    node = f"guest-{disk.serial}"
    cache = {"direct": False, "no-flush": True}
    file = {"driver": "file", "filename": str(disk.path.absolute()), "cache": cache}
    if disk.shared:
        file["locking"] = "off"
    blockdev = {"node-name": node, "driver": disk.form, "file": file, "cache": cache}
    shared = ",share-rw=on" if disk.shared else ""
    return ["-blockdev", json.dumps(blockdev), "-device", f"virtio-blk-pci,drive={node},serial={disk.serial}{shared}"]
