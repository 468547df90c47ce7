"""A mail server for tests: takes every message and keeps it (RFC 5321, as little of it as a client needs)."""

from __future__ import annotations

import email
import email.policy
import socket
import threading
import time
from contextlib import suppress
from email.message import EmailMessage
from types import TracebackType

from centralita.lab.net import LabNetwork


class MailSink:
    """A server in the lab's network, as a context manager."""

    def __init__(self, network: LabNetwork, port: int) -> None:
        self.messages: list[EmailMessage] = []
        self._listener = network.socket(kind=socket.SOCK_STREAM)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind((str(network.host_address), port))
        self._listener.listen()

    def __enter__(self) -> MailSink:
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def wait(self, recipient: str, *, seconds: float = 30) -> EmailMessage:
        """Wait for a message to somebody, and return it."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for message in list(self.messages):
                if recipient in str(message["To"]):
                    return message
            time.sleep(0.1)
        raise AssertionError(f"no mail to {recipient} within {seconds:g} s; there are {len(self.messages)} messages")

    def _serve(self) -> None:
        while True:
            try:
                connection, _address = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rwb") as stream:

            def say(line: str) -> None:
                stream.write(line.encode() + b"\r\n")
                stream.flush()

            say("220 sink")
            while line := stream.readline():
                verb = line.strip().upper()
                if verb == b"DATA":
                    say("354 go on")
                    lines = []
                    while (text := stream.readline()) not in (b".\r\n", b""):
                        lines.append(text[1:] if text.startswith(b".") else text)
                    found = email.message_from_bytes(b"".join(lines), policy=email.policy.default)
                    assert isinstance(found, EmailMessage)
                    self.messages.append(found)
                    say("250 taken")
                elif verb == b"QUIT":
                    say("221 bye")
                    return
                else:
                    say("250 sink")
