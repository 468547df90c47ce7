"""What is to be done so that a running clone is as its tenant's file says: files, reloads, and what cannot be done."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from centralita.clone.files import GuestFile
from centralita.clone.identity import Identity
from centralita.ground.errors import CentralitaError
from centralita.hosts.apply_state import Machine, Present

KEYS = "/root/.ssh/authorized_keys"
ASTERISK, OURS = "/etc/asterisk", "/etc/centralita"
SOUNDS, MUSIC = f"{OURS}/sounds", f"{OURS}/music"
_PJSIP = f"{ASTERISK}/pjsip.conf"

# What Asterisk is told when one of these files has changed, in the order in which it is told: numbers and what they
# lead to are there before the accounts that may dial them.
_RELOADS: tuple[tuple[str, str], ...] = (
    (rf"{ASTERISK}/http\.conf", "module reload http"),
    (rf"{ASTERISK}/indications.*\.conf", "module reload indications"),
    (rf"{ASTERISK}/musiconhold\.conf|{MUSIC}/.*", "moh reload"),
    (rf"{ASTERISK}/voicemail\.conf", "voicemail reload"),
    (rf"{ASTERISK}/confbridge\.conf", "module reload app_confbridge.so"),
    (rf"{ASTERISK}/res_parking\.conf", "module reload res_parking.so"),
    (rf"{ASTERISK}/queues\.conf", "queue reload all"),
    (rf"{ASTERISK}/extensions\.conf", "dialplan reload"),
    (rf"{ASTERISK}/pjsip.*\.conf", "module reload res_pjsip.so"),
)
# Read anew whenever they are needed.
_UNLOADED = re.compile(rf"{ASTERISK}/msmtprc|{OURS}/(faxes|tenant\.json|sounds(/.*)?|music)|{ASTERISK}/keys(/.*)?")
# Rendered for some tenants only: gone where it no longer is.
_OPTIONAL = (f"{ASTERISK}/pjsip_trunks.conf", f"{ASTERISK}/msmtprc", f"{OURS}/faxes")
_FIXED: tuple[tuple[str, str], ...] = (
    ("/etc/machine-id", "its machine-id"),
    ("/etc/ssh/ssh_host_.*", "its SSH host keys"),
    ("/etc/hostname|/etc/hosts", "its host name or domain"),
    ("/etc/systemd/network/.*|/etc/resolv\\.conf", "its network"),
    ("/etc/localtime|/etc/timezone", "its time zone"),
    (f"{OURS}/console-autologin", "the shell on its console"),
    (f"{ASTERISK}/keys/.*", "its TLS key and certificate"),
)
# What the golden image has where no tenant's phone is a web phone.
_NO_WEB = GuestFile(
    f"{ASTERISK}/http.conf",
    b"; No web server.\n[general]\nenabled = no\nbindaddr = 127.0.0.1\n",
    0o640,
    group="asterisk",
)
_OWNERS = frozenset({"root", "asterisk"})


@dataclass(frozen=True)
class Plan:
    """What is to be done.

    `write` and `remove` belong to the exchange; `later` are files that nothing asks for any more, removed at the end.
    `keys` are the admins' new keys, `reload` Asterisk's commands, `refusals` what a running machine cannot be given,
    `notes` what remains to be known.
    """

    write: tuple[GuestFile, ...]
    remove: tuple[str, ...]
    later: tuple[str, ...]
    keys: GuestFile | None
    reload: tuple[str, ...]
    refusals: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def nothing(self) -> bool:
        """Whether the machine is as it should be."""
        return not (self.write or self.remove or self.later or self.keys or self.refusals)


def same(file: GuestFile, present: Present | None) -> bool:
    """Tell whether a file is in the machine as it was rendered."""
    if present is None:
        return False
    if file.symlink is not None:
        return present.kind == "l" and present.link == file.symlink
    if (present.owner, present.group, present.mode) != (file.owner, file.group, file.mode):
        return False
    if file.directory:
        return present.kind == "d"
    return present.kind == "f" and present.sha256 == hashlib.sha256(file.content).hexdigest()


def check_machine(machine: Machine, identity: Identity) -> None:
    """Raise CentralitaError where a machine is another tenant's."""
    record = machine.files.get(f"{OURS}/tenant.json")
    try:
        said = json.loads((record.text if record else None) or b"{}")
        name, uuid = said.get("name"), said.get("uuid")
    except (ValueError, AttributeError):
        name = uuid = None
    if (name, uuid) != (identity.tenant, identity.uuid):
        raise CentralitaError(
            f"the machine says that it is {name or 'nobody'} ({uuid}), not {identity.tenant} ({identity.uuid})",
            hint="is the address right, and is this the build host that made the clone?",
        )


def make_plan(files: Sequence[GuestFile], machine: Machine) -> Plan:
    """Return what makes the machine's files the rendered ones."""
    write: list[GuestFile] = []
    refusals: dict[str, None] = {}
    keys = None
    wanted = {file.path: file for file in files}
    for file in files:
        present = machine.files.get(file.path)
        if _private(file.path) or same(file, present):
            continue
        fixed = _fixed(file, present)
        if fixed:
            refusals[fixed] = None
        elif file.path == KEYS:
            keys = file
        elif file.path.startswith((f"{ASTERISK}/", f"{OURS}/")):
            if _reload_of(file.path) is None and not _UNLOADED.fullmatch(file.path):
                refusals[f"{file.path}, which no reload reads"] = None
            write.append(file)
        elif not file.directory:
            refusals[f"{file.path}, which belongs to the system"] = None
    for file in write:
        if {file.owner, file.group} - _OWNERS:
            raise CentralitaError(f"{file.path} belongs to {file.owner}:{file.group}, whom the machine may not have")
    if f"{OURS}/console-autologin" in machine.files.keys() - wanted.keys():
        refusals["the shell on its console"] = None
    web = machine.files.get(_NO_WEB.path)
    if web is not None and _NO_WEB.path not in wanted and b"tlsbindaddr" in (web.text or b""):
        write.append(_NO_WEB)
    if KEYS in machine.files and KEYS not in wanted:
        refusals["its last admin: nobody could get in any more"] = None
    for what in _transports(wanted.get(_PJSIP), machine.files.get(_PJSIP)):
        refusals[what] = None
    notes = _left_open(wanted.get(_PJSIP), machine.files.get(_PJSIP))
    remove = tuple(path for path in _OPTIONAL if path in machine.files and path not in wanted)
    later = tuple(
        path
        for path, present in sorted(machine.files.items())
        if path.startswith((f"{SOUNDS}/", f"{MUSIC}/")) and present.kind == "f" and path not in wanted
    )
    reload = reloads((*(file.path for file in write), *remove, *later))
    return Plan(tuple(write), remove, later, keys, reload, tuple(refusals), notes)


def reloads(paths: Iterable[str]) -> tuple[str, ...]:
    """Return what Asterisk is to be told where these files have changed."""
    wanted = {_reload_of(path) for path in paths}
    return tuple(command for _pattern, command in _RELOADS if command in wanted)


ALL_RELOADS = tuple(command for _pattern, command in _RELOADS)


def accounts(files: Sequence[GuestFile]) -> list[str]:
    """Return the names of the endpoints that the rendered files declare."""
    names = []
    for file in files:
        if re.fullmatch(rf"{ASTERISK}/pjsip.*\.conf", file.path):
            for name, template, lines in _sections(file.content):
                if template == "(extension)" or ("type = endpoint" in lines and template != "(!)"):
                    names.append(name)
    # `pjsip list endpoints` cuts what is longer than its column.
    return sorted({name for name in names if len(name) <= 30})


def _private(path: str) -> bool:
    """Private halves are never read back; their public ones tell."""
    return path.startswith("/etc/ssh/ssh_host_") and not path.endswith(".pub")


def _fixed(file: GuestFile, present: Present | None) -> str | None:
    if file.path.startswith(f"{ASTERISK}/keys/") and present is None:
        return None  # TLS is new here, and so are its key and its transport
    return next((what for pattern, what in _FIXED if re.fullmatch(pattern, file.path)), None)


def _reload_of(path: str) -> str | None:
    return next((command for pattern, command in _RELOADS if re.fullmatch(pattern, path)), None)


def _transports(wanted: GuestFile | None, present: Present | None) -> list[str]:
    """Return what a reload of pjsip.conf does not change, in words."""
    if wanted is None or present is None or present.text is None:
        return []
    new, old = _fixed_sections(wanted.content), _fixed_sections(present.text)
    return [
        f"[{name}] of pjsip.conf, which Asterisk reads only when it starts"
        # A transport that is new is opened by a reload; one that is gone stays open, and serves nobody.
        for name in sorted(old.keys() & new.keys())
        if old[name] != new[name]
    ]


def _left_open(wanted: GuestFile | None, present: Present | None) -> tuple[str, ...]:
    if wanted is None or present is None or present.text is None:
        return ()
    gone = _fixed_sections(present.text).keys() - _fixed_sections(wanted.content).keys()
    return tuple(f"nothing uses transport {name} any more; it stays open until Asterisk starts anew" for name in gone)


def _fixed_sections(text: bytes) -> dict[str, tuple[str, ...]]:
    found = {}
    for name, _template, lines in _sections(text):
        if "type = transport" in lines or "type = system" in lines:
            found[name] = tuple(lines)
    return found


def _sections(text: bytes) -> list[tuple[str, str, list[str]]]:
    """Return the sections of a file of Asterisk: name, what is behind it in parentheses, lines without comments."""
    found: list[tuple[str, str, list[str]]] = []
    for raw in text.decode("utf-8", "replace").splitlines():
        line = raw.strip()
        if match := re.match(r"\[([^\]]+)\](\([^)]*\))?", line):
            found.append((match[1], match[2] or "", []))
        elif found and line and not line.startswith(";"):
            key, equals, value = line.partition("=")
            found[-1][2].append(f"{key.strip()} = {value.strip()}" if equals else line)
    return found
