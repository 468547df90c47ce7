"""How a host is named: libvirt's connection URIs (https://libvirt.org/uri.html), and `xl:` for Xen's own toolstack."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import parse_qs, urlsplit

from centralita.ground.errors import CentralitaError

HINT = "qemu:///system, qemu+ssh://USER@HOST/system, xen:///system, xen+ssh://USER@HOST/, xl: or xl:USER@HOST"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\$?")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.:-]*[A-Za-z0-9])?")
_DRIVERS = ("qemu", "xen")


@dataclass(frozen=True)
class SshTarget:
    """Whom ssh(1) calls. What is not given is as the caller's own ssh_config(5) says."""

    host: str
    user: str | None = None
    port: int | None = None
    keyfile: str | None = None
    known_hosts: str | None = None
    config: str | None = None
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class HostAddress:
    """A host: what runs its machines, and the way to it. `uri` is libvirt's as seen on the host itself."""

    text: str
    kind: Literal["libvirt", "xl"]
    uri: str = ""
    ssh: SshTarget | None = None

    @property
    def xen(self) -> bool:
        """Whether its machines are Xen's."""
        return self.kind == "xl" or self.uri.startswith("xen")


def parse_host(text: str) -> HostAddress:
    """Return the host that `text` names. Raises CentralitaError where it names none."""
    scheme, colon, rest = text.partition(":")
    driver, _plus, transport = scheme.partition("+")
    if colon and driver == "xl" and transport in ("", "ssh"):
        rest = rest.removeprefix("//")
        return HostAddress(text, "xl", ssh=ssh_target(text, f"//{rest}") if rest else None)
    if not colon or driver not in _DRIVERS or transport not in ("", "unix", "ssh"):
        raise CentralitaError(f"{text!r} names no host", hint=HINT)
    parts = urlsplit(f"//{rest.removeprefix('//')}" if rest.startswith("//") else rest)
    path = parts.path or "/"
    if path.rstrip("/") not in ("", "/system", "/session") or (transport != "ssh" and parts.netloc):
        raise CentralitaError(f"{text!r} names no host", hint=HINT)
    if driver == "qemu" and path == "/":
        raise CentralitaError(f"{text!r} does not say which libvirt", hint=f"add system: {text.rstrip('/')}/system")
    socket = parse_qs(parts.query).get("socket", [""])[-1]
    uri = f"{driver}+unix://{path}?socket={socket}" if socket else f"{driver}://{path}"
    return HostAddress(text, "libvirt", uri, ssh_target(text, rest) if transport == "ssh" else None)


def ssh_target(text: str, rest: str) -> SshTarget:
    """Return whom `//USER@HOST:PORT/…?keyfile=…&known_hosts=…` names. Raises CentralitaError, which shows *text*."""
    try:
        parts = urlsplit(rest)
        host, user, port = parts.hostname or "", parts.username, parts.port
    except ValueError:
        raise CentralitaError(f"{text!r} names no host", hint=HINT) from None
    # Nothing that ssh could take for an option, or a shell for more than a word.
    if not _HOST.fullmatch(host) or (user is not None and not _NAME.fullmatch(user)) or parts.password is not None:
        raise CentralitaError(f"{text!r} names no host that ssh can call", hint=HINT)
    query = parse_qs(parts.query)
    keyfile, known = (query.get(name, [None])[-1] for name in ("keyfile", "known_hosts"))
    return SshTarget(host, user, port, keyfile, known)
