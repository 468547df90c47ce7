"""Kernel options for machines of the lab. A golden image has none of them: they go into a lab's overlay only."""

from __future__ import annotations

from collections.abc import Sequence

from centralita.clone.files import GuestFile

LAB_CFG = "/boot/grub/lab.cfg"
# Measured in emulation: without the mitigations a boot takes half the time; the emulated time-stamp counter is steady,
# which the kernel would otherwise find out; nobody reads the audit log; a new overlay needs no file system check.
EMULATION_OPTIONS = ("mitigations=off", "tsc=reliable", "audit=0", "fsck.mode=skip")


def lab_cfg(kernel_cmdline: Sequence[str], options: Sequence[str] = EMULATION_OPTIONS) -> GuestFile:
    """Return the file that the golden image's grub.cfg reads if it is there: the same boot, with more options.

    `kernel_cmdline` is the golden record's: root=… and all else, without the kernel itself.
    """
    words = " ".join((*kernel_cmdline, *options))
    text = (
        "menuentry 'Centralita (lab)' {\n"
        f"\tlinux /boot/vmlinuz {words}\n"
        "\tinitrd /boot/initrd.img\n"
        "}\n"
    )  # fmt: skip
    return GuestFile(LAB_CFG, text.encode("ascii"))
