"""The difference between a running clone and its tenant's file, for people: no secret is in it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator

from centralita.clone.files import GuestFile
from centralita.hosts.apply_plan import KEYS, Plan
from centralita.hosts.apply_state import Machine

# `key = value` where the key says that the value is nobody's business; a line may be commented out.
_SETTING = re.compile(
    r"^(\s*;*\s*)([\w-]*(?:passw|secret|pin\b|pin_|cred|token|auth_key|private)[\w-]*)(\s*=>?\s*)(.*)$", re.IGNORECASE
)
_NO_SECRET = frozenset({"minpassword", "passwordlocation", "max_pin_attempts"})
_MAILBOX = re.compile(r"^(\s*;*\s*)(\d[\w-]*)(\s*=>?\s*)([^,]*)(.*)$")
_MSMTP = re.compile(r"^(\s*#*\s*)(password\w*)(\s+)(.*)$", re.IGNORECASE)
_TEXTS = re.compile(r"/etc/asterisk/[\w-]+\.conf|/etc/asterisk/msmtprc|/etc/centralita/(faxes|tenant\.json)|" + KEYS)


class Mask:
    """Hides secrets: at one place equal ones look equal, and others do not; and it knows again what it has hidden."""

    def __init__(self) -> None:
        self._places: dict[tuple[str, str, str], list[str]] = {}
        self._values: set[str] = set()

    def lines(self, path: str, text: str) -> list[str]:
        """Return a file's lines without secrets and without what a terminal would obey."""
        section = ""
        shown = []
        for line in text.splitlines():
            if match := re.match(r"\s*\[([^\]]+)\]", line):
                section = match[1]
            shown.append(printable(self._line(path, section, line)))
        return shown

    def text(self, text: str) -> str:
        """Return a text of another program without the secrets that were seen so far."""
        for value in sorted(self._values, key=len, reverse=True):
            text = text.replace(value, "(secret)")
        return printable(text)

    def _line(self, path: str, section: str, line: str) -> str:
        if path.endswith("/msmtprc"):
            match = _MSMTP.match(line)
        else:
            match = _SETTING.match(line)
            if match is not None and match[2].lower() in _NO_SECRET:
                match = None
            if match is None and path.endswith("/voicemail.conf"):
                match = _MAILBOX.match(line)
        if match is None or not match[4].strip():
            return line
        rest = match[5] if match.re is _MAILBOX else ""
        known = self._places.setdefault((path, section, match[2]), [])
        value = match[4].strip()
        if value not in known:
            known.append(value)
            self._values |= {word for word in (value, value.partition(":")[2]) if len(word) >= 4}
        return f"{match[1]}{match[2]}{match[3]}(secret {known.index(value) + 1}){rest}"


def printable(text: str) -> str:
    """Return a text without control characters."""
    return "".join(character if character.isprintable() or character == "\t" else "�" for character in text)


def differences(plan: Plan, machine: Machine, mask: Mask) -> Iterator[str]:
    """Return the lines of a unified diff from the machine's files to those that are to be there."""
    changed: list[tuple[str, GuestFile | None]] = [(file.path, file) for file in plan.write]
    changed += [(path, None) for path in (*plan.remove, *plan.later)]
    if plan.keys is not None:
        changed.append((plan.keys.path, plan.keys))
    for path, file in changed:
        present = machine.files.get(path)
        if file is not None and file.directory:
            continue
        if not _TEXTS.fullmatch(path):
            what = "new" if present is None else "gone" if file is None else "changed"
            size = f", {len(file.content)} bytes" if file is not None else ""
            yield f"{path}: {what}{size}"
            continue
        old = mask.lines(path, _decoded(present.text if present is not None else None))
        new = mask.lines(path, _decoded(file.content if file is not None else None))
        names = (path if present is not None else "/dev/null", path if file is not None else "/dev/null")
        lines = list(difflib.unified_diff(old, new, *names, lineterm="", n=2))
        yield from lines or [f"{path}: owner or mode"]


def _decoded(text: bytes | None) -> str:
    return (text or b"").decode("utf-8", "replace")
