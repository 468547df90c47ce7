"""The emulated machine under the Xen host: which QEMU, which processor, which boot. Nothing is started here.

What each word of the processor's model avoids is told in docs/xen.md.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from centralita.ground.accel import Accelerator
from centralita.lab.qemu import DirectKernel, MachineSpec
from centralita.lab.xen.dom0 import Dom0
from centralita.packages.tools import ToolsTree, tools_tree

CONTROL_SOCKET = "dom0.sock"
CONTROL_PORT = "org.centralita.dom0"
KERNEL, INITRAMFS, DISK = "vmlinuz", "initrd.img", "dom0.qcow2"

EMULATED_CPU = "EPYC,+svm,+npt,-smap,-monitor,-rdtscp,-xsave,-avx,-avx2,-fma,-f16c"
EMULATED = Accelerator("tcg", "Xen's host is emulated", ("-accel", "tcg,thread=multi"))
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
    """A disk for a guest (qcow2), and the name that it gets in dom0."""

    serial: str
    path: Path
    name: str


def pinned_qemu() -> tuple[ToolsTree, tuple[str, ...]]:
    """The tools tree with the QEMU that emulates nested paging rightly, and the start of its argument list."""
    tree = tools_tree("qemu72")
    modules = tree.root / "usr/lib/x86_64-linux-gnu/qemu"
    firmware = ("usr/share/qemu", "usr/share/seabios")
    return tree, (
        "env", f"QEMU_MODULE_DIR={modules}", *tree.command("qemu-system-x86_64"),
        *(word for folder in firmware for word in ("-L", str(tree.root / folder))),
    )  # fmt: skip


def host_spec(dom0: Dom0, workdir: Path, mac: str, disks: Sequence[GuestDisk], guests_mib: int) -> MachineSpec:
    """The machine. Kernel, initramfs and dom0's overlay are looked for in `workdir`, where QEMU runs."""
    modules = f"{KERNEL} {' '.join(DOM0_OPTIONS)},{INITRAMFS}"
    _, qemu = pinned_qemu()
    return MachineSpec(
        name="xen-host",
        disk=workdir / DISK,
        mac=mac,
        memory_mib=XEN_MIB + DOM0_MIB + guests_mib,
        cpu=EMULATED_CPU,
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
    blockdev = {"node-name": node, "driver": "qcow2", "file": file, "cache": cache}
    return ["-blockdev", json.dumps(blockdev), "-device", f"virtio-blk-pci,drive={node},serial={disk.serial}"]
