"""An OPTIONS request with credentials (RFC 3261, 22.4; RFC 8760): what a PBX answers to one of its own extensions."""

from __future__ import annotations

import hashlib
import re
import secrets
import socket
import time
from ipaddress import IPv4Address

from centralita.ground.errors import CentralitaError
from centralita.lab.net import LabNetwork
from centralita.lab.sip import SIP_PORT, SipAnswer, parse_answer, request

MAX_DATAGRAM = 65535
_HASHES = {"MD5": "md5", "SHA-256": "sha256"}
_CHALLENGE = re.compile(rb"^WWW-Authenticate:[ \t]*Digest[ \t]+([^\r\n]*)", re.MULTILINE | re.IGNORECASE)
_FIELD = re.compile(r'(\w+)=(?:"([^"]*)"|([^,\s]+))')


def answer_to(challenge: str, *, user: str, secret: str, method: str, uri: str) -> str:
    """Return the Authorization header that answers a Digest challenge (RFC 7616, 3.4, qop=auth)."""
    fields = {name.lower(): quoted or plain for name, quoted, plain in _FIELD.findall(challenge)}
    algorithm = fields.get("algorithm", "MD5")

    def digest(text: str) -> str:
        return hashlib.new(_HASHES[algorithm], text.encode(), usedforsecurity=False).hexdigest()

    cnonce, count = secrets.token_hex(8), "00000001"
    first, second = digest(f"{user}:{fields['realm']}:{secret}"), digest(f"{method}:{uri}")
    response = digest(f"{first}:{fields['nonce']}:{count}:{cnonce}:auth:{second}")
    parts = [
        f'username="{user}"', f'realm="{fields["realm"]}"', f'nonce="{fields["nonce"]}"', f'uri="{uri}"',
        f'response="{response}"', f"algorithm={algorithm}", f'cnonce="{cnonce}"', f"nc={count}", "qop=auth",
    ]  # fmt: skip
    if "opaque" in fields:
        parts.append(f'opaque="{fields["opaque"]}"')
    return f"Authorization: Digest {', '.join(parts)}"


def options(
    network: LabNetwork, target: IPv4Address, *, user: str, secret: str, number: str, timeout_s: float = 10.0
) -> SipAnswer:
    """Send OPTIONS for *number* as the extension *user*, and return the answer to its credentials.

    Raises CentralitaError where no answer comes within `timeout_s`.
    """
    tag = secrets.token_hex(8)
    uri = f"sip:{number}@{target}"
    extra: tuple[str, ...] = ("Accept: application/sdp",)
    started = time.monotonic()
    with network.socket(kind=socket.SOCK_DGRAM) as sock:
        sock.bind((str(network.host_address), 0))
        for count in (1, 2):
            ask = request(
                "OPTIONS", uri, sock.getsockname(), tag=tag, registrar=target, number=count, user=user, extra=extra
            )
            data = _exchange(sock, ask, (str(target), SIP_PORT), f"z9hG4bK{tag}{count}", started + timeout_s)
            if data is None:
                raise CentralitaError(f"{target} did not answer OPTIONS for {number} within {timeout_s:g} s")
            answer = parse_answer(data, tag=tag, seconds=time.monotonic() - started)
            offered = [line.decode() for line in _CHALLENGE.findall(data)]
            known = [line for line in offered if any(f"algorithm={name}" in line for name in _HASHES)] or offered
            if answer is None or answer.status != 401 or not known:
                break
            extra = (*extra[:1], answer_to(known[0], user=user, secret=secret, method="OPTIONS", uri=uri))
    if answer is None:
        raise CentralitaError(f"{target} answered OPTIONS with no SIP response")
    return answer


def _exchange(sock: socket.socket, ask: bytes, to: tuple[str, int], branch: str, deadline: float) -> bytes | None:
    """Send a request, again each half second, and return what answers it."""
    while time.monotonic() < deadline:
        sock.sendto(ask, to)
        sock.settimeout(0.5)
        try:
            data = sock.recv(MAX_DATAGRAM)
        except TimeoutError:
            continue
        # An answer to the request before this one may still come.
        if branch.encode() in data:
            return data
    return None
