"""The firmware of a lab machine: SeaBIOS, which QEMU brings along, or OVMF with variables of the machine's own."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Literal

from centralita.ground.errors import CentralitaError

Firmware = Literal["bios", "uefi", "uefi-secure"]

OVMF_DIR = Path("/usr/share/OVMF")
OVMF_VARS_COPY = "OVMF_VARS.fd"
# Debian's package "ovmf". The .ms variable store has Microsoft's keys enrolled and Secure Boot on.
OVMF_FILES: dict[Firmware, tuple[str, str]] = {
    "uefi": ("OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd"),
    "uefi-secure": ("OVMF_CODE_4M.secboot.fd", "OVMF_VARS_4M.ms.fd"),
}


def provide_firmware(firmware: Firmware, workdir: Path, ovmf_dir: Path = OVMF_DIR) -> None:
    """Copy UEFI's variables into `workdir`, unless the machine has some there from an earlier boot.

    Raises:
        CentralitaError: the host has no OVMF.
    """
    if firmware == "bios":
        return
    for name in OVMF_FILES[firmware]:
        if not (ovmf_dir / name).exists():
            raise CentralitaError(f"UEFI firmware {ovmf_dir / name} is missing", hint="apt-get install ovmf")
    variables = workdir / OVMF_VARS_COPY
    if not variables.exists():
        shutil.copyfile(ovmf_dir / OVMF_FILES[firmware][1], variables)
