"""A SIP phone of few lines over UDP that says exactly what a test wants it to say.

Other than the lab's phones it can know one digest algorithm only, register any contact, watch lamps (RFC 4235), and
send requests that no library would. What it gets it keeps.
"""

from __future__ import annotations

import re
import secrets
import socket
import time
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from types import TracebackType

from centralita.lab.net import LabNetwork
from centralita.lab.sip import SIP_PORT
from centralita.lab.sip_digest import authorization

ANSWER_S = 15.0
MAX_DATAGRAM = 65535
PAYLOAD_BYTES = 160  # 20 ms of G.711


@dataclass(frozen=True)
class Answer:
    """A final answer: its status, its text and its body."""

    status: int
    text: str

    @property
    def body(self) -> str:
        """What follows the headers."""
        return self.text.partition("\r\n\r\n")[2]

    def header(self, name: str) -> str:
        """Return a header's value, or nothing."""
        found = re.search(rf"(?mi)^{name}:\s*([^\r\n]*)", self.text)
        return found[1] if found else ""


class NoAnswerError(AssertionError):
    """Nothing came back: what was sent was no SIP message, or nobody is there."""


@dataclass
class SipClient:
    """One phone in the lab's network, as a context manager. ``algorithms`` are those that it knows."""

    network: LabNetwork
    registrar: IPv4Address
    user: str
    secret: str = field(repr=False)
    algorithms: tuple[str, ...] = ("MD5", "SHA-256")
    #: Bodies of what was notified, by the resource in To or From.
    notified: list[str] = field(default_factory=list)

    def __enter__(self) -> SipClient:
        self._socket = self.network.socket(kind=socket.SOCK_DGRAM)
        self._media = self.network.socket(kind=socket.SOCK_DGRAM)
        for sock in (self._socket, self._media):
            sock.bind((str(self.network.host_address), 0))
        self._host, self._port = self._socket.getsockname()
        self._number = 0
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()
        self._media.close()

    def register(self, contact: str | None = None, *, expires_s: int = 300) -> Answer:
        """Register; ``contact`` is the whole URI where it is not to be the own address."""
        uri = contact or f"sip:{self.user}@{self._host}:{self._port}"
        extra = (f"Contact: <{uri}>", f"Expires: {expires_s}")
        return self.ask("REGISTER", f"sip:{self.registrar}", to=self.user, extra=extra, contact=False)

    def watch(self, number: str, *, expires_s: int = 300) -> Answer:
        """Watch a number's lamp; what is told is in :attr:`notified`."""
        extra = ("Event: dialog", "Accept: application/dialog-info+xml", f"Expires: {expires_s}")
        return self.ask("SUBSCRIBE", f"sip:{number}@{self.registrar}", extra=extra)

    def call(self, number: str) -> Answer:
        """Call a number (or a whole URI) and acknowledge the final answer."""
        uri = number if number.startswith("sip:") else f"sip:{number}@{self.registrar}"
        return self.ask("INVITE", uri, body=self._offer(), extra=("Content-Type: application/sdp",))

    def hang_up(self, answer: Answer) -> None:
        """End a call that was answered."""
        target = re.search(r"<([^>]*)>", answer.header("Contact"))
        assert target is not None
        to = answer.header("To")
        call = answer.header("Call-ID")
        tag = re.search(r"tag=(\S+)", answer.header("From"))
        assert tag is not None
        self._send(self._request("BYE", target[1], to, call, tag[1], 99, ()))

    def echoed(self, answer: Answer, payload: bytes, *, packets: int = 50) -> int:
        """Send packets of G.711 to the other side and count those that come back with the same sound."""
        address = re.search(r"(?m)^c=IN IP4 (\S+)", answer.body)
        port = re.search(r"(?m)^m=audio (\d+)", answer.body)
        assert address is not None and port is not None
        self._media.settimeout(0.02)
        same = 0
        for index in range(packets + 25):
            if index < packets:
                header = (
                    b"\x80\x08" + index.to_bytes(2, "big") + (index * PAYLOAD_BYTES).to_bytes(4, "big") + b"\0\0\0\7"
                )
                self._media.sendto(header + payload, (address[1], int(port[1])))
            end = time.monotonic() + 0.02
            while (left_s := end - time.monotonic()) > 0:
                self._media.settimeout(left_s)
                try:
                    same += self._media.recv(MAX_DATAGRAM)[12:] == payload
                except TimeoutError:
                    break
        return same

    def ask(
        self,
        method: str,
        uri: str,
        *,
        to: str | None = None,
        body: str = "",
        extra: tuple[str, ...] = (),
        contact: bool = True,
    ) -> Answer:
        """Send a request, answer a challenge once, and return the final answer (of an INVITE: acknowledged)."""
        call, tag = f"{secrets.token_hex(8)}@{self._host}", secrets.token_hex(8)
        target = f"<{uri if to is None else f'sip:{to}@{self.registrar}'}>"
        if contact:
            extra = (f"Contact: <sip:{self.user}@{self._host}:{self._port}>", *extra)
        answer = self._answered(method, uri, target, call, tag, extra, body)
        if answer.status in (401, 407):
            line = authorization(answer.text, method, uri, self.user, self.secret, self.algorithms)
            if line is not None:
                answer = self._answered(method, uri, target, call, tag, (*extra, line), body)
        return answer

    def listen(self, seconds: float) -> None:
        """Take what comes for a while: notifications are answered and kept."""
        end = time.monotonic() + seconds
        while (left_s := end - time.monotonic()) > 0:
            self._take(left_s)

    def wait_notified(self, text: str, *, after: int = 0, timeout_s: float = ANSWER_S) -> str:
        """Wait for a notification, among ``notified[after:]``, whose body holds a text."""
        end = time.monotonic() + timeout_s
        while True:
            for body in self.notified[after:]:
                if text in body:
                    return body
            left_s = end - time.monotonic()
            assert left_s > 0, f"{self.user} was not told {text!r} within {timeout_s:g} s, but {self.notified[after:]}"
            self._take(left_s)

    def _answered(
        self, method: str, uri: str, to: str, call: str, tag: str, extra: tuple[str, ...], body: str
    ) -> Answer:
        self._number += 1
        number = self._number
        request = self._request(method, uri, to, call, tag, number, extra, body)
        end = time.monotonic() + ANSWER_S
        self._send(request)
        while (left_s := end - time.monotonic()) > 0:
            text = self._take(left_s)
            if text is None or f"Call-ID: {call}" not in text or f"CSeq: {number} {method}" not in text:
                continue
            status = int(text.split(" ", 2)[1])
            if status < 200:
                continue
            answer = Answer(status, text)
            if method == "INVITE":
                target = re.search(r"<([^>]*)>", answer.header("Contact")) if status < 300 else None
                self._send(
                    self._request("ACK", target[1] if target else uri, answer.header("To"), call, tag, number, ())
                )
            return answer
        raise NoAnswerError(f"no answer to {method} {uri} within {ANSWER_S:g} s")

    def _take(self, timeout_s: float) -> str | None:
        """Take one datagram; answer it where it is a request."""
        self._socket.settimeout(timeout_s)
        try:
            text = self._socket.recv(MAX_DATAGRAM).decode("utf-8", "replace")
        except TimeoutError:
            return None
        if text.startswith("SIP/2.0"):
            return text
        if text.startswith("NOTIFY"):
            self.notified.append(text.partition("\r\n\r\n")[2])
        kept = re.findall(r"(?mi)^((?:Via|From|To|Call-ID|CSeq):[^\r\n]*)", text)
        self._send("\r\n".join(["SIP/2.0 200 OK", *kept, "Content-Length: 0", "", ""]))
        return None

    def _send(self, text: str) -> None:
        self._socket.sendto(text.encode(), (str(self.registrar), SIP_PORT))

    def _request(
        self, method: str, uri: str, to: str, call: str, tag: str, number: int, extra: tuple[str, ...], body: str = ""
    ) -> str:
        lines = (
            f"{method} {uri} SIP/2.0",
            f"Via: SIP/2.0/UDP {self._host}:{self._port};rport;branch=z9hG4bK{secrets.token_hex(8)}",
            "Max-Forwards: 70",
            f"From: <sip:{self.user}@{self.registrar}>;tag={tag}",
            f"To: {to}",
            f"Call-ID: {call}",
            f"CSeq: {number} {method}",
            *extra,
            f"Content-Length: {len(body.encode())}",
        )
        return "\r\n".join((*lines, "", body))

    def _offer(self) -> str:
        port = self._media.getsockname()[1]
        lines = ("v=0", f"o=- 1 1 IN IP4 {self._host}", "s=-", f"c=IN IP4 {self._host}", "t=0 0")
        return "\r\n".join((*lines, f"m=audio {port} RTP/AVP 8", "a=rtpmap:8 PCMA/8000", "a=ptime:20", ""))
