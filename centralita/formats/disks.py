"""The disk in the formats that qemu-img writes, each the same bytes whenever it is made of the same disk."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from centralita.formats.stamps import stamp_vdi, stamp_vhd, stamp_vhdx, stamp_vmdk
from centralita.formats.subject import Subject
from centralita.ground.errors import CentralitaError
from centralita.ground.run import run
from centralita.image.formats import write_qcow2, write_zst
from centralita.packages.tools import ToolsTree

MIB = 1024 * 1024


def _convert(subject: Subject, target: Path, form: str, options: str, tools: ToolsTree) -> None:
    argv = [*tools.command("qemu-img"), "convert", "-f", "raw", "-O", form]
    if options:
        argv += ["-o", options]
    run([*argv, subject.raw, target])


def make_qcow2(subject: Subject, target: Path, tools: ToolsTree) -> None:
    """Write the qcow2, as a build does."""
    write_qcow2(subject.raw, target, tools)


def make_raw_zst(subject: Subject, target: Path, tools: ToolsTree) -> None:
    """Write the compressed raw disk, as a build does."""
    write_zst(subject.raw, target, tools)


def make_vmdk(subject: Subject, target: Path, tools: ToolsTree) -> None:
    """Write a stream-optimised VMDK: compressed, to be imported and not to be run from."""
    # "lsilogic" stands for every SCSI adapter, PVSCSI too (VMware KB 1016840).
    _convert(subject, target, "vmdk", "subformat=streamOptimized,adapter_type=lsilogic,hwversion=13", tools)
    stamp_vmdk(target, int(subject.digest[:8], 16) or 1)


def make_vdi(subject: Subject, target: Path, tools: ToolsTree) -> None:
    """Write a VDI that grows."""
    _convert(subject, target, "vdi", "", tools)
    stamp_vdi(target, subject.uuid("vdi"), subject.uuid("vdi/snapshot"))


def make_vhd(subject: Subject, target: Path, tools: ToolsTree) -> None:
    """Write a dynamic VHD. Without force_size qemu-img rounds the disk up to what cylinders can express."""
    _whole_mib(subject)
    _convert(subject, target, "vpc", "subformat=dynamic,force_size=on", tools)
    stamp_vhd(target, subject.uuid("vhd"), dynamic=True)


def make_vhd_fixed(subject: Subject, target: Path, tools: ToolsTree) -> None:
    """Write a fixed VHD by Azure's rules (a virtual size of whole MiB, generation 1), compressed by zstd."""
    _whole_mib(subject)
    plain = target.with_suffix("")
    _convert(subject, plain, "vpc", "subformat=fixed,force_size=on", tools)
    stamp_vhd(plain, subject.uuid("vhd-fixed"), dynamic=False)
    write_zst(plain, target, tools, level=9)
    plain.unlink()


def _whole_mib(subject: Subject) -> None:
    if subject.size_bytes % MIB:
        raise CentralitaError(f"a VHD of {subject.size_bytes} bytes is refused by Azure", hint="whole MiB only")


def make_vhdx(subject: Subject, target: Path, tools: ToolsTree) -> None:
    """Write a dynamic VHDX."""
    _convert(subject, target, "vhdx", "subformat=dynamic,block_size=1M", tools)
    stamp_vhdx(target, subject.uuid("vhdx"), subject.uuid("vhdx/write"))


DISK_DESCRIPTOR = """\
<?xml version='1.0' encoding='UTF-8'?>
<Parallels_disk_image Version="1.0">
    <Disk_Parameters>
        <Disk_size>{sectors}</Disk_size>
        <Cylinders>{cylinders}</Cylinders>
        <PhysicalSectorSize>4096</PhysicalSectorSize>
        <LogicSectorSize>512</LogicSectorSize>
        <Heads>16</Heads>
        <Sectors>63</Sectors>
        <Padding>0</Padding>
        <Encryption>
            <Engine>{{00000000-0000-0000-0000-000000000000}}</Engine>
            <Data></Data>
        </Encryption>
        <UID>{{{uid}}}</UID>
        <Name>{name}</Name>
        <Miscellaneous/>
    </Disk_Parameters>
    <StorageData>
        <Storage>
            <Start>0</Start>
            <End>{sectors}</End>
            <Blocksize>2048</Blocksize>
            <Image>
                <GUID>{{{guid}}}</GUID>
                <Type>Compressed</Type>
                <File>{file}</File>
            </Image>
        </Storage>
    </StorageData>
    <Snapshots>
        <Shot>
            <GUID>{{{guid}}}</GUID>
            <ParentGUID>{{00000000-0000-0000-0000-000000000000}}</ParentGUID>
        </Shot>
    </Snapshots>
</Parallels_disk_image>
"""


def make_hdd(subject: Subject, target: Path, tools: ToolsTree) -> None:
    """Write a Parallels disk: a folder NAME.hdd with its description and one expanding image, in a tar."""
    # The identifier that Parallels gives the only, topmost state of a disk.
    guid = "5fbaabe3-6958-40ff-92a7-860e329aab41"
    image = f"{subject.name}.hdd.0.{{{guid}}}.hds"
    sectors = subject.size_bytes // 512
    descriptor = DISK_DESCRIPTOR.format(
        sectors=sectors, cylinders=sectors // (16 * 63), uid=subject.uuid("hdd"), guid=guid, file=image,
        name=subject.name,
    )  # fmt: skip
    plain, packed = target.with_name("image.hds"), target.with_suffix("")
    _convert(subject, plain, "parallels", "", tools)
    with tarfile.open(packed, "w", format=tarfile.USTAR_FORMAT) as out:
        folder = f"{subject.name}.hdd"
        add(out, folder, None, subject.epoch, mode=0o755)
        add(out, f"{folder}/DiskDescriptor.xml", descriptor.encode(), subject.epoch)
        # An empty file of the image's name marks the bundle.
        add(out, f"{folder}/{folder}", b"", subject.epoch)
        add(out, f"{folder}/{image}", plain, subject.epoch)
    plain.unlink()
    run([*tools.command("gzip"), "-n", "-6", packed])


def add(
    out: tarfile.TarFile, name: str, content: bytes | Path | None, epoch: int, *, mode: int = 0o644, owner: int = 0
) -> None:
    """Add a file (bytes, or those of a path) or a folder (None) to a tar, with one time and numeric owners."""
    entry = tarfile.TarInfo(name)
    entry.mtime, entry.mode, entry.uid, entry.gid = epoch, mode, owner, owner
    if content is None:
        entry.type = tarfile.DIRTYPE
        out.addfile(entry)
    elif isinstance(content, bytes):
        entry.size = len(content)
        out.addfile(entry, io.BytesIO(content))
    else:
        entry.size = content.stat().st_size
        with content.open("rb") as stream:
            out.addfile(entry, stream)
