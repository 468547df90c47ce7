"""The golden disk's partition table: where each partition lies, written by sfdisk into a plain file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from centralita.ground.run import run
from centralita.packages.tools import ToolsTree

SECTOR_BYTES = 512
MIB = 1024 * 1024
BIOS_BOOT_TYPE = "21686148-6449-6E6F-744E-656564454649"
ESP_TYPE = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
ROOT_X86_64_TYPE = "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709"


@dataclass(frozen=True)
class Partition:
    """One partition; ``start_mib`` and ``size_mib`` on the disk."""

    number: int
    name: str
    type_guid: str
    start_mib: int
    size_mib: int


def layout(size_mib: int, esp_mib: int) -> tuple[Partition, Partition, Partition]:
    """BIOS boot, ESP and root. The last MiB of the disk belongs to the backup table."""
    root_start = 2 + esp_mib
    return (
        Partition(1, "bios-boot", BIOS_BOOT_TYPE, 1, 1),
        Partition(2, "esp", ESP_TYPE, 2, esp_mib),
        Partition(3, "pbx-root", ROOT_X86_64_TYPE, root_start, size_mib - root_start - 1),
    )


def write_table(
    disk: Path, partitions: tuple[Partition, ...], disk_guid: str, guids: tuple[str, ...], tools: ToolsTree
) -> None:
    """Write a GPT with fixed identifiers into *disk*, which already has its size."""
    lines = ["label: gpt", f"label-id: {disk_guid}", f"first-lba: {MIB // SECTOR_BYTES}", "unit: sectors"]
    for partition, guid in zip(partitions, guids, strict=True):
        start, size = (n * MIB // SECTOR_BYTES for n in (partition.start_mib, partition.size_mib))
        lines.append(f"start={start}, size={size}, type={partition.type_guid}, uuid={guid}, name={partition.name}")
    script = ("\n".join(lines) + "\n").encode()
    run([*tools.command("sfdisk"), "--quiet", "--no-reread", "--no-tell-kernel", "--wipe", "never", disk], stdin=script)
