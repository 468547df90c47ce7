"""Disks of a clone that were spoiled on purpose, each in one way."""

from __future__ import annotations

from pathlib import Path

from centralita.clone.files import GuestFile
from centralita.clone.inject import inject
from centralita.image.cpio import CpioArchive
from centralita.image.grub import grub_cfg
from centralita.lab.guest import Prepared
from centralita.lab.xen.qemu import GuestDisk
from tests.disks import boot_file, overlay

HEADER_BYTES = 110
S_IFMT, S_IFDIR, S_IFREG, S_IFLNK, S_IFCHR = 0o170000, 0o040000, 0o100000, 0o120000, 0o020000
# The initcall that panics on a Zen processor: the golden disk's command line leaves it out (docs/xen.md).
CURE = "initcall_blacklist="


def without(archive: bytes, module: str) -> bytes:
    """An initramfs without a kernel module, and without what its tables say of it."""
    made = CpioArchive()
    at = 0
    while True:
        fields = [int(archive[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        mode, size, major, minor, name_bytes = fields[1], fields[6], fields[9], fields[10], fields[11]
        name = archive[at + HEADER_BYTES : at + HEADER_BYTES + name_bytes - 1].decode()
        start = (at + HEADER_BYTES + name_bytes + 3) & ~3
        data = archive[start : start + size]
        at = (start + size + 3) & ~3
        if name == "TRAILER!!!":
            return made.finish()
        if name.endswith(f"/{module}.ko"):
            continue
        if name.endswith(("/modules.dep", "/modules.alias")):
            names = (module, module.replace("-", "_"))
            data = b"".join(
                line for line in data.splitlines(keepends=True) if not any(word.encode() in line for word in names)
            )
        if mode & S_IFMT == S_IFDIR:
            made.folder(name)
        elif mode & S_IFMT == S_IFLNK:
            made.symlink(name, data.decode())
        elif mode & S_IFMT == S_IFCHR:
            made.device(name, major, minor, mode & 0o777)
        else:
            made.file(name, data, mode & 0o777)


def spoiled_disks(prepared: Prepared, folder: Path) -> list[GuestDisk]:
    """Overlays of the clone: `no-blkfront`, `broken-menu`, `no-kernel` and `early-panic`, in one injection."""
    record = prepared.golden.record
    _root, *words = record.kernel_cmdline
    menu = grub_cfg(record.root_uuid, words)
    assert CURE in menu
    initramfs = boot_file(record.appliance, "initrd.img")
    spoiled = {
        "no-blkfront": GuestFile("/boot/initrd.img", without(initramfs, "xen-blkfront")),
        "broken-menu": GuestFile("/boot/grub/grub.cfg", menu.partition("\tlinux")[0].encode() + b"\tlinu"),
        "no-kernel": GuestFile("/boot/grub/grub.cfg", menu.replace("/boot/vmlinuz", "/boot/vmlinux-6").encode()),
        "early-panic": GuestFile("/boot/grub/grub.cfg", menu.replace(CURE, "no_such_word=").encode()),
    }
    # The lab's own menu would be read in the place of the spoiled one.
    no_lab_menu = GuestFile("/boot/grub/lab.cfg", b"")
    disks = []
    items = []
    for name, file in spoiled.items():
        disk = overlay(prepared, folder / f"{name}.qcow2")
        items.append((disk, [file, no_lab_menu]))
        disks.append(GuestDisk(name, disk, f"/dev/centralita/{name}"))
    inject(items)
    return disks
