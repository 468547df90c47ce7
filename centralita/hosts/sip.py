"""The smallest SIP client there can be: an OPTIONS request over UDP, to learn whether a PBX answers (RFC 3261, 11).

Any final answer counts as life: a PBX that knows no anonymous endpoint challenges with 401, and that is an answer.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address

SIP_PORT = 5060
MAX_DATAGRAM = 65535


@dataclass(frozen=True)
class SipAnswer:
    """The first line of an answer, and how long it took from sending the request (seconds)."""

    status: int
    reason: str
    seconds: float
    server: str | None = None


def request(
    method: str,
    uri: str,
    source: tuple[str, int],
    *,
    tag: str,
    registrar: IPv4Address,
    number: int = 1,
    user: str = "ping",
    extra: Sequence[str] = (),
) -> bytes:
    """Return a request with every header that RFC 3261, 8.1.1 makes mandatory, and no body.

    `user` is who asks (From, Contact); `tag` stands in the branch, the From tag and the Call-ID; `extra` are headers.
    """
    host, port = source
    lines = (
        f"{method} {uri} SIP/2.0",
        # rport (RFC 3581): the answer comes back to the port that we sent from.
        f"Via: SIP/2.0/UDP {host}:{port};rport;branch=z9hG4bK{tag}{number}",
        "Max-Forwards: 70",
        f"From: <sip:{user}@{registrar}>;tag={tag}",
        f"To: <{uri}>",
        f"Call-ID: {tag}@{host}",
        f"CSeq: {number} {method}",
        f"Contact: <sip:{user}@{host}:{port}>",
        *extra,
        "Content-Length: 0",
        "",
        "",
    )
    return "\r\n".join(lines).encode("ascii")


def options_request(target: IPv4Address, source: tuple[str, int], *, tag: str, number: int = 1) -> bytes:
    """Return an OPTIONS request."""
    uri = f"sip:{target}"
    return request("OPTIONS", uri, source, tag=tag, registrar=target, number=number, extra=("Accept: application/sdp",))


_STATUS_LINE = re.compile(rb"SIP/2\.0 (\d{3}) ([^\r\n]*)")
_SERVER = re.compile(rb"^(?:Server|User-Agent):[ \t]*([^\r\n]*)", re.MULTILINE | re.IGNORECASE)


def parse_answer(datagram: bytes, *, tag: str, seconds: float) -> SipAnswer | None:
    """Return the answer in `datagram`, or None when it answers another request or is no SIP response."""
    status_line = _STATUS_LINE.match(datagram)
    if status_line is None or tag.encode() not in datagram:
        return None
    server = _SERVER.search(datagram)
    return SipAnswer(
        status=int(status_line[1]),
        reason=status_line[2].decode("utf-8", "replace"),
        seconds=seconds,
        server=server[1].decode("utf-8", "replace") if server else None,
    )


def udp_socket(target: IPv4Address, port: int = SIP_PORT) -> socket.socket:
    """Return a UDP socket bound to the address by which this host reaches `target`. Raises OSError: it does not."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as finder:
        finder.connect((str(target), port))  # sends nothing, but chooses the route
        source = finder.getsockname()[0]
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((source, 0))
    return sock


def probe(
    open_socket: Callable[[], socket.socket],
    target: IPv4Address,
    stop: threading.Event,
    *,
    port: int = SIP_PORT,
    interval_s: float = 0.2,
    attempts: int | None = None,
) -> SipAnswer | None:
    """Send OPTIONS every `interval_s` seconds until one is answered; return that answer.

    `open_socket` returns a bound UDP socket. Returns None when `stop` is set (looked at between two requests) or
    `attempts` requests got no answer. All requests share a dialog identifier, so the answer to any of them counts;
    its `seconds` are those since the last one was sent.
    """
    tag = secrets.token_hex(8)
    with open_socket() as sock:
        sent = 0
        while not stop.is_set() and (attempts is None or sent < attempts):
            request = options_request(target, sock.getsockname(), tag=tag, number=sent + 1)
            started = time.monotonic()
            # EHOSTUNREACH until the guest answers ARP.
            with contextlib.suppress(OSError):
                sock.sendto(request, (str(target), port))
            sent += 1
            while (left_s := started + interval_s - time.monotonic()) > 0:
                sock.settimeout(left_s)
                try:
                    datagram = sock.recv(MAX_DATAGRAM)
                except TimeoutError:
                    break
                except OSError:
                    # The error of an earlier request; the wait goes on.
                    continue
                answer = parse_answer(datagram, tag=tag, seconds=time.monotonic() - started)
                if answer is not None and answer.status >= 200:
                    return answer
    return None
