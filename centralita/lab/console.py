"""What a machine says on its serial console: kept, searched, and watched for the sentences that mean the end."""

from __future__ import annotations

import codecs
import re
import time
from dataclasses import dataclass

# What a guest prints when it will never come up. Whoever sees one of these has no reason to wait any longer.
FAILURE_SIGNS: tuple[tuple[str, str], ...] = (
    (r"Kernel panic - not syncing[^\r\n]*", "the kernel panicked"),
    # Xen's own words, on the console of a Xen host (xen/drivers/char/console.c, xen/common/shutdown.c).
    (r"^\(XEN\) Panic on CPU \d+:[^\r\n]*\r?\n[^\r\n]*", "Xen panicked"),
    (r"^\(XEN\) Hardware Dom0 (?:crashed|halted|shutdown)[^\r\n]*", "dom0 ended"),
    (r"VFS: (?:Unable to mount root|Cannot open root)[^\r\n]*", "the kernel found no root file system"),
    (r"You are in (?:emergency|rescue) mode|Entering emergency mode", "systemd fell into emergency mode"),
    (r"\(initramfs\) ?$|Gave up waiting for root[^\r\n]*", "the initramfs found no root file system"),
    (r"centralita: the initramfs has no driver for the disk[^\r\n]*", "the initramfs lacks the disk's driver"),
    (r"centralita: no disk holds the root file system[^\r\n]*", "the initramfs found no root file system"),
    # A menu that cannot be read leaves GRUB at its prompt, where nobody will type.
    (r"error: (?:syntax error|Incorrect command|you need to load the kernel first)[^\r\n]*", "GRUB's menu is broken"),
    (r"^grub> ?$", "GRUB waits at its prompt: its menu has no entry, or is not there"),
    (r"grub rescue>|Entering rescue mode\.\.\.", "GRUB fell into its rescue shell"),
    (r"error: not xen image[^\r\n]*", "GRUB's Xen loader does not know the kernel's compression"),
    # Debian's GRUB for Xen guests looks for an image of its own first, and goes on without.
    # Only a whole line tells which it is.
    (r"error: no such (?:device|partition)(?!: (?:/boot)?/xen/pvboot)[^\r\n]*\n", "GRUB failed"),
    (r"error: (?:unknown filesystem|file `[^\r\n]*' not found)[^\r\n]*", "GRUB failed"),
    (
        r"error: [^\r\n]*(?:invalid signature|bad shim signature|prohibited by secure boot)[^\r\n]*",
        "Secure Boot refused",
    ),
    (r"Verification failed: \(0x[0-9A-F]+\) Security Violation|Access Denied", "Secure Boot refused"),
    (r"No bootable device|Boot failed: not a bootable disk", "the firmware found nothing to boot"),
    (r"BdsDxe: No bootable option|UEFI Interactive Shell", "the firmware found nothing to boot"),
)
_FAILURE = [(re.compile(pattern, re.MULTILINE), meaning) for pattern, meaning in FAILURE_SIGNS]

# Colours, cursor moves, titles and queries of systemd, agetty, GRUB and the firmware (ECMA-48 control sequences).
_CONTROL_SEQUENCE = re.compile(
    r"\x1b(?:\[[0-9;?=!]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|P[^\x1b]*\x1b\\|[()][A-B0-2]|[=>78cM])"
)
# The beginning of one at the end of what came so far.
_CUT_SEQUENCE = re.compile(r"\x1b(?:\[[0-9;?=!]*[ -/]*|\][^\x07\x1b]*\x1b?|P[^\x1b]*\x1b?|[()])?\Z")
_LONGEST_SEQUENCE = 1024
# A sign may arrive in two pieces; so much of what was searched already is searched again.
_OVERLAP = 400
_KEPT_CHARACTERS = 4_000_000


@dataclass(frozen=True)
class FailureSign:
    """A sentence that means that the guest will not come up, and what it means."""

    text: str
    meaning: str


class ConsoleText:
    """The console's text so far, without terminal control sequences. Not locked: the machine's lock guards it."""

    def __init__(self) -> None:
        self._text = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._cut = ""
        self._searched = 0
        self._failure: FailureSign | None = None
        self._marks: list[tuple[int, float]] = []

    @property
    def text(self) -> str:
        """All text so far, lines ended by a newline."""
        return self._text

    @property
    def failure(self) -> FailureSign | None:
        """The first sentence that means the end, None while there is none."""
        return self._failure

    def feed(self, data: bytes) -> None:
        """Add what the console sent."""
        text = self._cut + self._decoder.decode(data)
        # A sequence or line end that is cut here waits for its rest.
        cut = _CUT_SEQUENCE.search(text, max(0, len(text) - _LONGEST_SEQUENCE))
        end = cut.start() if cut else len(text) - text.endswith("\r")
        self._cut = text[end:]
        text = _CONTROL_SEQUENCE.sub("", text[:end])
        text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")
        if not text or len(self._text) > _KEPT_CHARACTERS:
            return
        self._marks.append((len(self._text), time.monotonic()))
        self._text += text
        if self._failure is None:
            self._look_for_failure()

    def search(self, pattern: re.Pattern[str], start: int = 0) -> re.Match[str] | None:
        """Search the text from the offset `start`."""
        return pattern.search(self._text, start)

    def seen_at(self, offset: int) -> float:
        """Return when the character at `offset` came, in seconds of time.monotonic()."""
        moment = 0.0
        for start, when in self._marks:
            if start > offset:
                break
            moment = when
        return moment

    def last_lines(self, count: int = 25) -> list[str]:
        """Return the last lines that are not empty."""
        lines = [line.rstrip() for line in self._text[-20_000:].split("\n")]
        return [line for line in lines if line][-count:]

    def _look_for_failure(self) -> None:
        start = max(0, self._searched - _OVERLAP)
        for pattern, meaning in _FAILURE:
            match = pattern.search(self._text, start)
            if match is not None:
                self._failure = FailureSign(match[0].strip(), meaning)
                return
        self._searched = len(self._text)
