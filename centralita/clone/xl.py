"""A domain's xl.cfg(5), as an admin keeps it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Literal, get_args

from centralita.ground.errors import CentralitaError

XenTarget = Literal["xen-pv", "xen-pvgrub", "xen-pvh", "xen-pvh-grub", "xen-hvm"]
XEN_TARGETS: tuple[XenTarget, ...] = get_args(XenTarget)

# Debian's package grub-xen-host: GRUB as a domain's kernel, which reads the disk's own /boot/grub/grub.cfg.
GRUB_PV = "/usr/lib/grub-xen/grub-x86_64-xen.bin"
GRUB_PVH = "/usr/lib/grub-xen/grub-i386-xen_pvh.bin"

_DEVICE = re.compile(r"/[A-Za-z0-9/._+:-]+")

_BOOT: dict[XenTarget, dict[str, object]] = {
    "xen-pv": {"type": "pv", "bootloader": "pygrub"},
    "xen-pvgrub": {"type": "pv", "kernel": GRUB_PV},
    "xen-pvh": {"type": "pvh", "bootloader": "pygrub"},
    "xen-pvh-grub": {"type": "pvh", "kernel": GRUB_PVH},
    # No screen, no USB: nobody looks at it, and each costs an emulated device.
    "xen-hvm": {
        "type": "hvm", "boot": "c", "hdtype": "ahci", "serial": "pty", "vga": "none", "nographic": 1, "usb": 0,
    },
}  # fmt: skip


@dataclass(frozen=True)
class XlConfig:
    """A domain. `disk` and `data` are block devices in dom0 that hold raw disks (logical volumes, as a rule)."""

    target: XenTarget
    name: str
    uuid: str
    mac: str
    disk: str
    memory_mib: int
    vcpus: int = 1
    bridge: str = "xenbr0"
    # Its name in the guest; empty: what suits the kind of guest.
    device: str = ""
    # Its data disk; empty: it has none.
    data: str = ""
    # For xen-pvgrub and xen-pvh-grub, the path in dom0 of another GRUB than that of the package grub-xen-host.
    grub: str = ""
    # For HVM, the path in dom0 of a UEFI firmware that was built for Xen (OvmfXen); empty: SeaBIOS.
    uefi: str = ""

    def __post_init__(self) -> None:
        if self.target not in _BOOT:
            raise CentralitaError(f"unknown Xen target {self.target!r}", hint=f"one of {', '.join(XEN_TARGETS)}")
        if self.uefi and self.target != "xen-hvm":
            raise CentralitaError(f"{self.target} has no firmware: UEFI is for xen-hvm")
        if self.grub and "kernel" not in _BOOT[self.target]:
            raise CentralitaError(f"{self.target} is not booted by GRUB from dom0")
        for path in (self.disk, self.data, self.uefi, self.grub):
            if path and not _DEVICE.fullmatch(path):
                raise CentralitaError(
                    f"{path!r} cannot be a path in dom0", hint="an absolute path of letters, digits and /._+-:"
                )

    def text(self) -> str:
        """The file. Its values are what xl.cfg(5) calls strings, numbers and lists; JSON writes them alike."""
        # An HVM guest's firmware finds its disk by the emulated controller, so that one is named as its kernel does.
        device = self.device or ("hda" if self.target == "xen-hvm" else "xvda")
        disks = [f"format=raw, vdev={device}, access=rw, target={self.disk}"]
        if self.data:
            second = "hdb" if device == "hda" else f"{device[:-1]}b"
            disks.append(f"format=raw, vdev={second}, access=rw, target={self.data}")
        values: dict[str, object] = {
            "name": self.name,
            "uuid": self.uuid,
            **_BOOT[self.target],
            **({"kernel": self.grub} if self.grub else {}),
            **({"bios": "ovmf", "bios_path_override": self.uefi} if self.uefi else {}),
            "memory": self.memory_mib,
            "vcpus": self.vcpus,
            "disk": disks,
            "vif": [f"mac={self.mac}, bridge={self.bridge}" + (", model=e1000" if self.target == "xen-hvm" else "")],
            # The machine's clock is UTC, whatever dom0's is.
            "localtime": 0,
            "on_poweroff": "destroy",
            "on_reboot": "restart",
            "on_crash": "restart",
        }
        lines = [f"# {self.name} as {self.target}, made by Centralita; see xl.cfg(5)."]
        lines.append(f"# Autostart: ln -s THIS_FILE /etc/xen/auto/{self.name}.cfg")
        lines += [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in values.items()]
        return "\n".join(lines) + "\n"
