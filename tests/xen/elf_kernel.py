"""The golden disk's kernel in the form that GRUB's older PV loaders take: an ELF file, compressed by xz."""

from __future__ import annotations

import lzma
import struct
import subprocess

from centralita.clone.files import GuestFile
from centralita.lab.guest import Prepared
from centralita.lab.options import lab_cfg
from centralita.packages.tools import tools_tree
from tests.disks import boot_file

PATH = "/boot/vmlinux.xz"
# Linux, Documentation/arch/x86/boot.rst: where the header says how long the setup code is, and where the payload lies.
SETUP_SECTORS_AT, PAYLOAD_AT, SECTOR_BYTES = 0x1F1, 0x248, 512


def elf_of(bzimage: bytes) -> bytes:
    """What a bzImage whose payload is compressed by zstd unpacks itself to."""
    start = (bzimage[SETUP_SECTORS_AT] + 1) * SECTOR_BYTES
    offset, length = struct.unpack_from("<II", bzimage, PAYLOAD_AT)
    # Behind the frame the length of what it holds stands once more, which zstd would call garbage.
    payload = bzimage[start + offset : start + offset + length - 4]
    zstd = tools_tree("disk").command("zstd")
    elf = subprocess.run([*zstd, "-dc"], input=payload, capture_output=True, check=True).stdout
    assert elf.startswith(b"\x7fELF")
    return elf


def elf_kernel_files(prepared: Prepared) -> list[GuestFile]:
    """The kernel, and a menu of the lab that boots it."""
    record = prepared.golden.record
    packed = lzma.compress(elf_of(boot_file(record.appliance, "vmlinuz")), check=lzma.CHECK_CRC32, preset=3)
    menu = lab_cfg(record.kernel_cmdline)
    return [GuestFile(menu.path, menu.content.replace(b"/boot/vmlinuz", PATH.encode())), GuestFile(PATH, packed)]
