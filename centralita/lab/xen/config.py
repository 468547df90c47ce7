"""A domain's xl.cfg(5), as an admin keeps it, and what the lab adds to it on xl's command line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from centralita.ground.errors import CentralitaError
from centralita.lab.options import EMULATION_OPTIONS

XenTarget = Literal["xen-pv", "xen-pvgrub", "xen-pvh", "xen-pvh-grub", "xen-hvm"]
XEN_TARGETS: tuple[XenTarget, ...] = get_args(XenTarget)

# Debian's package grub-xen-host: GRUB as a domain's kernel, which reads the disk's own /boot/grub/grub.cfg.
GRUB_PV = "/usr/lib/grub-xen/grub-x86_64-xen.bin"
GRUB_PVH = "/usr/lib/grub-xen/grub-i386-xen_pvh.bin"

CONSOLE_LOGS = "/var/log/xen/console"

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
    """A domain. `disk` is a block device in dom0 that holds the raw disk (a logical volume, as a rule)."""

    target: XenTarget
    name: str
    uuid: str
    mac: str
    disk: str
    memory_mib: int
    vcpus: int = 1
    bridge: str = "xenbr0"

    def __post_init__(self) -> None:
        if self.target not in _BOOT:
            raise CentralitaError(f"unknown Xen target {self.target!r}", hint=f"one of {', '.join(XEN_TARGETS)}")

    def text(self) -> str:
        """The file. Its values are what xl.cfg(5) calls strings, numbers and lists; JSON writes them alike."""
        # An HVM guest's firmware finds its disk by the emulated controller, so that one is named as its kernel does.
        device = "hda" if self.target == "xen-hvm" else "xvda"
        values: dict[str, object] = {
            "name": self.name,
            "uuid": self.uuid,
            **_BOOT[self.target],
            "memory": self.memory_mib,
            "vcpus": self.vcpus,
            "disk": [f"format=raw, vdev={device}, access=rw, target={self.disk}"],
            "vif": [f"mac={self.mac}, bridge={self.bridge}" + (", model=e1000" if self.target == "xen-hvm" else "")],
            "on_poweroff": "destroy",
            "on_reboot": "restart",
            "on_crash": "restart",
        }
        lines = [f"# {self.name} as {self.target}, made by Centralita; see xl.cfg(5)."]
        lines += [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in values.items()]
        return "\n".join(lines) + "\n"


def serial_log(name: str) -> str:
    """The log of an HVM guest's serial port, beside those of xenconsoled."""
    return f"serial-{name}.log"


def lab_overrides(config: XlConfig, options: Sequence[str] = EMULATION_OPTIONS) -> list[str]:
    """Arguments of `xl create` that change the domain for the lab, where the file stays as it is.

    A crashed domain stays to be looked at; the guest's kernel speaks before it has a console; and its time-stamp
    counter is read without a trap, which emulated nested virtualisation answers wrongly (docs/xen.md).
    """
    words = ['on_crash="preserve"']
    if config.target in ("xen-pv", "xen-pvh"):
        # pygrub adds this to the command line that it finds; for GRUB the clone holds /boot/grub/lab.cfg.
        words.append(f"extra={json.dumps(' '.join((*options, 'earlyprintk=xen')))}")
    if config.target not in ("xen-pv", "xen-pvgrub"):
        words.append('tsc_mode="native"')
    if config.target == "xen-hvm":
        # What firmware and GRUB say is said there only, and nobody but QEMU would read it.
        words.append(f'serial="file:{CONSOLE_LOGS}/{serial_log(config.name)}"')
    return words
