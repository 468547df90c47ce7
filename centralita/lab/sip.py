"""The SIP client of `hosts.sip` in the lab's network, and single requests whose answer is looked at."""

from __future__ import annotations

import re
import secrets
import socket
import threading
import time
from ipaddress import IPv4Address

from centralita.hosts import sip
from centralita.hosts.sip import MAX_DATAGRAM, SIP_PORT, SipAnswer, options_request, parse_answer, request
from centralita.lab.net import LabNetwork

__all__ = ["SIP_PORT", "SipAnswer", "ask", "options_request", "parse_answer", "ping", "probe", "request"]


def _bound(network: LabNetwork) -> socket.socket:
    sock = network.socket(kind=socket.SOCK_DGRAM)
    sock.bind((str(network.host_address), 0))
    return sock


def ask(
    network: LabNetwork,
    target: IPv4Address,
    method: str,
    uri: str,
    *,
    user: str,
    port: int = SIP_PORT,
    timeout_s: float = 5.0,
) -> str | None:
    """Send one request without credentials and return the final answer's whole text, None if none comes.

    An INVITE's answer is acknowledged, so that the other side does not repeat it (RFC 3261, 17.1.1.3).
    """
    tag = secrets.token_hex(8)
    with _bound(network) as sock:
        source = sock.getsockname()
        extra = ("Allow: INVITE, ACK, BYE, CANCEL",)
        sock.sendto(
            request(method, uri, source, tag=tag, registrar=target, user=user, extra=extra), (str(target), port)
        )
        deadline = time.monotonic() + timeout_s
        while (left_s := deadline - time.monotonic()) > 0:
            sock.settimeout(left_s)
            try:
                datagram = sock.recv(MAX_DATAGRAM)
            except TimeoutError:
                return None
            answer = parse_answer(datagram, tag=tag, seconds=0.0)
            if answer is not None and answer.status >= 200:
                text = datagram.decode("utf-8", "replace")
                if method == "INVITE":
                    acknowledgement = request("ACK", uri, source, tag=tag, registrar=target, user=user)
                    their_to = re.search(r"^To:[^\r\n]*", text, re.MULTILINE)
                    if their_to is not None:
                        own_to = f"To: <{uri}>".encode()
                        acknowledgement = acknowledgement.replace(own_to, their_to[0].encode())
                    sock.sendto(acknowledgement, (str(target), port))
                return text
    return None


def ping(network: LabNetwork, target: IPv4Address, *, port: int = SIP_PORT, timeout_s: float = 1.0) -> SipAnswer | None:
    """Send one OPTIONS from inside `network` and return the answer, or None if none comes within `timeout_s`."""
    return probe(network, target, threading.Event(), port=port, interval_s=timeout_s, attempts=1)


def probe(
    network: LabNetwork,
    target: IPv4Address,
    stop: threading.Event,
    *,
    port: int = SIP_PORT,
    interval_s: float = 0.2,
    attempts: int | None = None,
) -> SipAnswer | None:
    """As `hosts.sip.probe`, from inside `network`."""
    return sip.probe(lambda: _bound(network), target, stop, port=port, interval_s=interval_s, attempts=attempts)
