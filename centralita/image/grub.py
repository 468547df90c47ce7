"""GRUB on the golden disk, with no device: for BIOS by writing what grub-bios-setup would, for UEFI by copying.

Layout of boot.img and core.img: GRUB's grub-core/boot/i386/pc/{boot,diskboot}.S and include/grub/i386/pc/boot.h.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

from centralita.ground.errors import CentralitaError
from centralita.ground.run import run
from centralita.image.gpt import MIB, SECTOR_BYTES, Partition
from centralita.packages.tools import ToolsTree

BIOS_MODULES = (
    "biosdisk", "part_gpt", "ext2", "search", "search_fs_uuid", "configfile", "normal", "linux", "echo", "test",
    "serial", "terminal", "reboot", "halt", "ls", "cat", "minicmd", "loadenv",
)  # fmt: skip
# A kernel beyond the first sectors needs LBA; the boot code is 440 bytes, the rest of sector 0 is the table's.
BOOT_CODE_BYTES = 440
KERNEL_SECTOR_AT = 0x5C
DRIVE_CHECK_AT = 0x66
BLOCK_LIST_AT = 0x1F4
BLOCK_LIST_SEGMENT = 0x820

SIGNED_SHIM = "usr/lib/shim/shimx64.efi.signed"
SIGNED_GRUB = "usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed"
MOK_MANAGER = "usr/lib/shim/mmx64.efi.signed"


def grub_cfg(root_uuid: str, cmdline: Sequence[str]) -> str:
    """The menu, in the flat form that pygrub's parser and Xen's PV and PVH GRUB read too.

    A lab may lay /boot/grub/lab.cfg into its own overlay; a golden image has none.
    """
    return f"""\
# Made by Centralita. Flat on purpose: pygrub reads it line by line.
serial --unit=0 --speed=115200
terminal_input console serial
terminal_output console serial
set default=0
set timeout=0
search --no-floppy --fs-uuid --set=root {root_uuid}
if [ -f /boot/grub/lab.cfg ]; then
source /boot/grub/lab.cfg
fi
menuentry 'Centralita' {{
\tlinux /boot/vmlinuz root=UUID={root_uuid} {" ".join(cmdline)}
\tinitrd /boot/initrd.img
}}
"""


def core_image(root_uuid: str, tools: ToolsTree, folder: Path) -> bytes:
    """GRUB's core for BIOS, which finds the root file system by UUID and reads its menu."""
    early = folder / "early.cfg"
    early.write_text(f"search.fs_uuid {root_uuid} root\nset prefix=($root)/boot/grub\nconfigfile $prefix/grub.cfg\n")
    core = folder / "core.img"
    run(
        [
            *tools.command("grub-mkimage"), "-O", "i386-pc", "-d", tools.file("usr/lib/grub/i386-pc"),
            "-c", early, "-p", "/boot/grub", "-o", core, *BIOS_MODULES,
        ]
    )  # fmt: skip
    return core.read_bytes()


def install_bios(disk: Path, partition: Partition, root_uuid: str, tools: ToolsTree, folder: Path) -> None:
    """Write GRUB's boot code into the disk's first sector and its core into the BIOS boot partition."""
    boot = bytearray(tools.file("usr/lib/grub/i386-pc/boot.img").read_bytes()[:BOOT_CODE_BYTES])
    core = bytearray(core_image(root_uuid, tools, folder))
    core += b"\0" * (-len(core) % SECTOR_BYTES)
    if len(core) > partition.size_mib * MIB:
        raise CentralitaError(
            f"GRUB's core of {len(core)} bytes does not fit its partition of {partition.size_mib} MiB"
        )
    first = partition.start_mib * MIB // SECTOR_BYTES
    struct.pack_into("<Q", boot, KERNEL_SECTOR_AT, first)
    # The jump that boots from the drive number built in, not the BIOS's: two NOPs take the BIOS's.
    boot[DRIVE_CHECK_AT : DRIVE_CHECK_AT + 2] = b"\x90\x90"
    sectors = len(core) // SECTOR_BYTES
    struct.pack_into("<QHH", core, BLOCK_LIST_AT, first + 1, sectors - 1, BLOCK_LIST_SEGMENT)
    with disk.open("r+b") as stream:
        stream.write(boot)
        stream.seek(first * SECTOR_BYTES)
        stream.write(core)


def esp_files(root_uuid: str, tools: ToolsTree) -> dict[str, bytes]:
    """What is on the ESP: Debian's signed shim and GRUB on the removable-media path (UEFI 2.10, 3.5.1.1)."""
    stub = f"search.fs_uuid {root_uuid} root\nset prefix=($root)/boot/grub\nconfigfile $prefix/grub.cfg\n".encode()
    return {
        "EFI/BOOT/BOOTX64.EFI": tools.file(SIGNED_SHIM).read_bytes(),
        "EFI/BOOT/grubx64.efi": tools.file(SIGNED_GRUB).read_bytes(),
        "EFI/BOOT/mmx64.efi": tools.file(MOK_MANAGER).read_bytes(),
        # The prefix that is built into Debian's signed GRUB.
        "EFI/debian/grub.cfg": stub,
    }


def make_esp(path: Path, size_mib: int, files: dict[str, bytes], epoch: int, tools: ToolsTree, folder: Path) -> None:
    """Write a FAT file system image of *size_mib* with *files*, by mtools."""
    env = {"SOURCE_DATE_EPOCH": str(epoch), "TZ": "UTC0", "MTOOLS_SKIP_CHECK": "1", "LC_ALL": "C.UTF-8"}
    with path.open("wb") as stream:
        stream.truncate(size_mib * MIB)
    run([*tools.command("mformat"), "-i", path, "-v", "PBX-ESP", "-N", f"{epoch & 0xFFFFFFFF:08x}", "::"], env=env)
    made: set[str] = set()
    for name, data in sorted(files.items()):
        parts = name.split("/")
        for i in range(1, len(parts)):
            parent = "/".join(parts[:i])
            if parent not in made:
                made.add(parent)
                run([*tools.command("mmd"), "-i", path, f"::/{parent}"], env=env)
        staged = folder / parts[-1]
        staged.write_bytes(data)
        run([*tools.command("mcopy"), "-i", path, staged, f"::/{name}"], env=env)
