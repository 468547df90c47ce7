"""The control channel to dom0's agent: requests with answers, and events, as JSON lines over a Unix socket."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import shlex
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from centralita.ground.errors import CentralitaError

REQUEST_TIMEOUT_S = 120.0

EventCallback = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True)
class Ran:
    """How a program ended in dom0."""

    argv: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str


class Channel:
    """Connected from the machine's first moment; what the agent says arrives once it runs."""

    def __init__(self, path: Path, on_event: EventCallback) -> None:
        self._on_event = on_event
        self._numbers = itertools.count(1)
        self._waiting: dict[int, Future[dict[str, Any]]] = {}
        self._lock = threading.Lock()
        self._socket = socket.socket(socket.AF_UNIX)
        # The address of a Unix socket has room for 107 bytes only; the folder's descriptor makes it short.
        folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
        try:
            self._socket.connect(f"/proc/self/fd/{folder}/{path.name}")
        finally:
            os.close(folder)
        threading.Thread(target=self._read, name="dom0-channel", daemon=True).start()

    def close(self) -> None:
        """End it; whoever waits for an answer gets an error."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def request(self, op: str, *, answer_s: float = REQUEST_TIMEOUT_S, **fields: object) -> dict[str, Any]:
        """Send a request and return its answer.

        Raises:
            CentralitaError: the agent could not do it, is gone, or did not answer within `answer_s` seconds.
        """
        number = next(self._numbers)
        future: Future[dict[str, Any]] = Future()
        line = json.dumps({"id": number, "op": op, **fields}).encode() + b"\n"
        try:
            with self._lock:
                self._waiting[number] = future
                self._socket.sendall(line)
            answer = future.result(answer_s)
        except FutureTimeoutError as error:
            raise CentralitaError(f"dom0 did not answer {op} within {answer_s:g} s") from error
        except OSError as error:
            raise CentralitaError(f"dom0 cannot be asked to {op}: {error}") from error
        finally:
            with self._lock:
                self._waiting.pop(number, None)
        if "error" in answer:
            raise CentralitaError(f"dom0: {answer['error']}")
        return answer

    def run(self, argv: Sequence[str], *, check: bool = True, timeout_s: float = REQUEST_TIMEOUT_S) -> Ran:
        """Run a program in dom0. Raises CentralitaError where it cannot, or (with `check`) fails."""
        answer = self.request("run", argv=list(argv), timeout_s=timeout_s, answer_s=timeout_s + 30)
        ran = Ran(tuple(argv), answer["returncode"], answer["stdout"], answer["stderr"])
        if check and ran.returncode != 0:
            said = (ran.stderr or ran.stdout).strip()[-3000:]
            raise CentralitaError(f"in dom0 `{shlex.join(argv)}` failed with status {ran.returncode}:\n{said}")
        return ran

    def write(self, path: str, data: bytes) -> None:
        """Write a file in dom0."""
        self.request("write", path=path, data=base64.b64encode(data).decode())

    def _read(self) -> None:
        rest = b""
        with contextlib.suppress(OSError):
            while data := self._socket.recv(65536):
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    self._take(json.loads(line))
        with self._lock:
            for future in self._waiting.values():
                future.set_exception(OSError("the machine ended"))

    def _take(self, message: dict[str, Any]) -> None:
        if "id" not in message:
            self._on_event(message)
            return
        with self._lock:
            future = self._waiting.get(message["id"])
        if future is not None:
            future.set_result(message)
