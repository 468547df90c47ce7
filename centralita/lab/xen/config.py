"""What the lab adds to a domain's xl.cfg on xl's command line, so that the file stays as an admin has it."""

from __future__ import annotations

import json
from collections.abc import Sequence

from centralita.clone.xl import XlConfig
from centralita.lab.options import EMULATION_OPTIONS

CONSOLE_LOGS = "/var/log/xen/console"


def serial_log(name: str) -> str:
    """The log of an HVM guest's serial port, beside those of xenconsoled."""
    return f"serial-{name}.log"


def serial_socket(name: str) -> str:
    """The Unix socket in dom0 by which an HVM guest's serial port is typed on."""
    return f"/run/serial-{name}.sock"


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
        log = f"logfile={CONSOLE_LOGS}/{serial_log(config.name)},logappend=on"
        words.append(f'serial="unix:{serial_socket(config.name)},server=on,wait=off,{log}"')
    return words
