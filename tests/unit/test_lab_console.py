"""The console: what is kept of it, and which sentences end the waiting."""

from __future__ import annotations

import re

import pytest

from centralita.lab.console import ConsoleText


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 1000])
def test_control_sequences_are_dropped_however_the_stream_is_cut(chunk: int) -> None:
    stream = (
        b"\x1b[0;32mOK\x1b[0m ma\xc3\xb1ana\r\n"
        b"\x1b]3008;start=45eef;comm=agetty\x1b\\\x1bP+q6E616D65\x1b\\trial login: \x1b[6n\x1b(B!"
    )
    console = ConsoleText()
    for start in range(0, len(stream), chunk):
        console.feed(stream[start : start + chunk])
    assert console.text == "OK mañana\ntrial login: !"


@pytest.mark.parametrize(
    ("line", "meaning"),
    [
        ("[    4.2] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)", "panicked"),
        ("You are in emergency mode. After logging in, type", "emergency"),
        ("Gave up waiting for root file system device.  Common problems:", "initramfs"),
        ("error: no such device: pbx-root.\nEntering rescue mode...\ngrub rescue> ", "GRUB"),
        ("Booting `Centralita'\n\nerror: not xen image.\nerror: you need to load the kernel first.", "compression"),
        ("Verification failed: (0x1A) Security Violation", "Secure Boot"),
        ("error: kern/efi/sb.c:182:bad shim signature.", "Secure Boot"),
        ("Booting from Hard Disk...\nBoot failed: not a bootable disk\n\nNo bootable device.", "nothing to boot"),
    ],
)
def test_signs_of_failure_are_seen(line: str, meaning: str) -> None:
    console = ConsoleText()
    for byte in line.encode():
        console.feed(bytes([byte]))
    assert console.failure is not None
    assert meaning in console.failure.meaning


def test_an_ordinary_boot_is_no_failure() -> None:
    console = ConsoleText()
    for byte in b"error: no such device: /boot/xen/pvboot-x86_64.elf.\r\n":
        console.feed(bytes([byte]))
    console.feed(
        b"GRUB loading.\r\nWelcome to GRUB!\r\n[    0.000000] Linux version 7.2\r\n"
        b"[    1.2] secureboot: Secure boot enabled\r\n[  OK  ] Reached target emergency-ish.target\r\npbx login: "
    )
    assert console.failure is None
    match = console.search(re.compile("login:"))
    assert match is not None
    assert console.seen_at(match.start()) > 0
    assert console.last_lines(1) == ["pbx login:"]
