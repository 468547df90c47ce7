"""A web phone for tests: SIP over a secure WebSocket (RFC 7118), sound over ICE and DTLS-SRTP by aiortc.

Run as a program in the lab's network: ``python -m centralita.lab.web_phone PBX USER NUMBER`` with the secret on
standard input. It registers, calls the number, sends a tone and listens; what came of it is one line of JSON.
"""

from __future__ import annotations

import asyncio
import base64
import json
import math
import os
import re
import secrets
import ssl
import sys
from array import array
from fractions import Fraction
from typing import Any

import av
from aiortc import MediaStreamTrack, RTCPeerConnection, RTCSessionDescription

from centralita.lab.audio import Sound, tone_seconds
from centralita.lab.sip_digest import authorization

PORT = 8089
RATE_HZ, FRAME = 8000, 160
TONE_HZ = 745.0
LISTEN_S = 4.0
ANSWER_S = 20.0


class Tone(MediaStreamTrack):
    """A sine of 20 ms frames."""

    kind = "audio"

    def __init__(self) -> None:
        super().__init__()
        self._sent = 0
        self._start: float | None = None

    async def recv(self) -> av.AudioFrame:
        """Return the next frame when it is due."""
        now = asyncio.get_running_loop().time()
        self._start = now if self._start is None else self._start
        await asyncio.sleep(max(0.0, self._start + self._sent / RATE_HZ - now))
        angles = (2 * math.pi * TONE_HZ * (self._sent + index) / RATE_HZ for index in range(FRAME))
        frame = av.AudioFrame(format="s16", layout="mono", samples=FRAME)
        frame.planes[0].update(array("h", (round(8000 * math.sin(angle)) for angle in angles)).tobytes())
        frame.sample_rate, frame.pts, frame.time_base = RATE_HZ, self._sent, Fraction(1, RATE_HZ)
        self._sent += FRAME
        return frame


class WebSocket:
    """As much of RFC 6455 as a client needs that sends and gets whole text messages."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, host: str) -> WebSocket:
        """Open a connection; the PBX's certificate is its own."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        reader, writer = await asyncio.open_connection(host, PORT, ssl=context)
        key = base64.b64encode(os.urandom(16)).decode()
        lines: tuple[str, ...] = (
            f"GET /ws HTTP/1.1\r\nHost: {host}:{PORT}",
            "Upgrade: websocket",
            "Connection: Upgrade",
        )
        lines = (*lines, f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Protocol: sip")
        writer.write("\r\n".join((*lines, "", "")).encode())
        answer = (await reader.readuntil(b"\r\n\r\n")).decode()
        if " 101 " not in answer.split("\r\n", 1)[0]:
            raise RuntimeError(f"no WebSocket: {answer}")
        return cls(reader, writer)

    async def send(self, text: str) -> None:
        """Send a text message."""
        data, mask = text.encode(), os.urandom(4)
        size = len(data)
        head = bytes([0x81, 0x80 | size]) if size < 126 else b"\x81\xfe" + size.to_bytes(2, "big")
        self._writer.write(head + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(data)))
        await self._writer.drain()

    async def receive(self) -> str:
        """Return the next text message."""
        while True:
            first, second = await self._reader.readexactly(2)
            size = second & 0x7F
            if size == 126:
                size = int.from_bytes(await self._reader.readexactly(2), "big")
            data = await self._reader.readexactly(size)
            if first & 0x0F in (1, 2):
                return data.decode("utf-8", "replace")


class WebPhone:
    """Registers and calls over a WebSocket."""

    def __init__(self, socket: WebSocket, host: str, user: str, secret: str) -> None:
        self._socket, self._host, self._user, self._secret = socket, host, user, secret
        self._me = f"{secrets.token_hex(6)}.invalid"
        self._number = 0

    async def ask(self, method: str, uri: str, to: str, extra: tuple[str, ...] = (), body: str = "") -> str:
        """Send a request, answer a challenge, and return the final answer."""
        call, tag = secrets.token_hex(8), secrets.token_hex(8)
        answer = ""
        for _attempt in range(2):
            self._number += 1
            await self._socket.send(self._request(method, uri, to, call, tag, extra, body))
            answer = await asyncio.wait_for(self._final(f"CSeq: {self._number} {method}"), ANSWER_S)
            if method == "INVITE":
                target = re.search(r"(?m)^Contact: <([^>]*)>", answer)
                their = re.search(r"(?m)^To: ([^\r\n]*)", answer)
                assert their is not None
                where = target[1] if target else uri
                await self._socket.send(self._request("ACK", where, their[1], call, tag, (), ""))
            line = authorization(answer, method, uri, self._user, self._secret)
            if line is None:
                break
            extra = (*extra, line)
        return answer

    async def _final(self, wanted: str) -> str:
        while True:
            text = await self._socket.receive()
            if text.startswith("SIP/2.0") and wanted in text and not text.startswith("SIP/2.0 1"):
                return text

    def _request(self, method: str, uri: str, to: str, call: str, tag: str, extra: tuple[str, ...], body: str) -> str:
        lines = (
            f"{method} {uri} SIP/2.0",
            f"Via: SIP/2.0/WSS {self._me};branch=z9hG4bK{secrets.token_hex(8)}",
            "Max-Forwards: 70",
            f"From: <sip:{self._user}@{self._host}>;tag={tag}",
            f"To: {to}",
            f"Call-ID: {call}",
            f"CSeq: {self._number} {method}",
            f"Contact: <sip:{self._user}@{self._me};transport=ws>",
            *extra,
            f"Content-Length: {len(body.encode())}",
        )
        return "\r\n".join((*lines, "", body))


async def talk(host: str, user: str, secret: str, number: str) -> dict[str, Any]:
    """Register, call, send and hear; return what came of it."""
    phone = WebPhone(await WebSocket.open(host), host, user, secret)
    me = f"<sip:{user}@{host}>"
    registered = await phone.ask("REGISTER", f"sip:{host}", me, ("Expires: 300",))
    result: dict[str, Any] = {"registered": registered.split("\r\n", 1)[0]}
    connection = RTCPeerConnection()
    connection.addTrack(Tone())
    heard = array("h")

    async def listen(track: MediaStreamTrack) -> None:
        while True:
            frame: Any = await track.recv()
            channels = len(frame.layout.channels)
            samples = array("h", bytes(frame.planes[0])[: frame.samples * channels * 2])
            heard.extend(samples[::channels])
            result["rate_hz"] = frame.sample_rate

    tasks = []
    connection.on("track", lambda track: tasks.append(asyncio.ensure_future(listen(track))))
    await connection.setLocalDescription(await connection.createOffer())
    uri = f"sip:{number}@{host}"
    offer = connection.localDescription.sdp
    answer = await phone.ask("INVITE", uri, f"<{uri}>", ("Content-Type: application/sdp",), offer)
    result["answered"] = answer.split("\r\n", 1)[0]
    if answer.startswith("SIP/2.0 200"):
        sdp = answer.partition("\r\n\r\n")[2]
        result["profile"] = re.findall(r"m=audio \d+ (\S+)", sdp)[0]
        await connection.setRemoteDescription(RTCSessionDescription(sdp, "answer"))
        await asyncio.sleep(LISTEN_S)
        result["state"] = connection.connectionState
        sound = Sound(heard, result.get("rate_hz", RATE_HZ))
        result["heard_s"], result["tone_s"] = sound.seconds, tone_seconds(sound, TONE_HZ)
    for task in tasks:
        task.cancel()
    await connection.close()
    return result


def main() -> None:
    """Run once."""
    host, user, number = sys.argv[1:4]
    secret = sys.stdin.readline().strip()
    print(json.dumps(asyncio.run(talk(host, user, secret, number))), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
