"""QEMU's machine protocol for synchronous callers: qemu.qmp's asyncio client in a thread with a loop of its own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from typing import Any

from qemu.qmp import ConnectError, EventListener, ExecuteError, QMPClient, QMPError

from centralita.ground.errors import CentralitaError

EventCallback = Callable[[str, Mapping[str, Any]], None]


@dataclass(frozen=True)
class QmpEvent:
    """An event of QEMU's, and when it came (seconds since power on)."""

    name: str
    data: Mapping[str, Any]
    seconds: float


class Qmp:
    """A QMP session over a connected socket (one end of a socketpair whose other end QEMU inherited)."""

    def __init__(self, name: str, sock: socket.socket, on_event: EventCallback) -> None:
        self._name = name
        self._sock = sock
        self._on_event = on_event
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"qmp-{name}", daemon=True)
        self._client: QMPClient | None = None
        self._events: asyncio.Task[None] | None = None

    def connect(self, *, timeout_s: float) -> None:
        """Negotiate with QEMU.

        Raises:
            CentralitaError: QEMU ended, or said no, or not in time.
        """
        self._sock.setblocking(False)
        self._thread.start()
        self._finish(self._connect(), timeout_s, "did not open its control channel")

    def execute(
        self, command: str, arguments: Mapping[str, object] | None = None, *, timeout_s: float = 30.0
    ) -> object:
        """Run one QMP command and return its result.

        Raises:
            CentralitaError: QEMU refused the command, ended, or did not answer in time.
        """
        return self._finish(self._execute(command, dict(arguments or {})), timeout_s, f"did not answer {command}")

    def close(self) -> None:
        """End the session; no error when QEMU is gone already."""
        if self._thread.is_alive():
            with contextlib.suppress(CentralitaError):
                self._finish(self._close(), 5.0, "did not close its control channel")
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(5.0)
        if not self._thread.is_alive():
            self._loop.close()
        self._sock.close()

    def _finish(self, coroutine: Coroutine[Any, Any, object], timeout_s: float, failure: str) -> object:
        future: Future[object] = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result(timeout_s)
        except ExecuteError as error:
            raise CentralitaError(f"QEMU of {self._name} refused: {error}") from error
        except ConnectError as error:
            raise CentralitaError(f"QEMU of {self._name} {failure}: {error}") from error
        except (QMPError, EOFError, OSError, asyncio.CancelledError) as error:
            raise CentralitaError(f"QEMU of {self._name} {failure}: {error or type(error).__name__}") from error
        except FutureTimeoutError as error:
            future.cancel()
            raise CentralitaError(f"QEMU of {self._name} {failure} within {timeout_s:g} s") from error

    async def _connect(self) -> None:
        client = QMPClient(self._name)
        listener = EventListener()
        client.register_listener(listener)
        await client.connect(self._sock)
        self._client = client
        self._events = asyncio.create_task(self._pump(listener))

    async def _pump(self, listener: EventListener) -> None:
        async for message in listener:
            data = message.get("data")
            self._on_event(str(message["event"]), data if isinstance(data, Mapping) else {})

    async def _execute(self, command: str, arguments: dict[str, Any]) -> object:
        if self._client is None:
            raise EOFError("not connected")
        return await self._client.execute(command, arguments or None)

    async def _close(self) -> None:
        if self._events is not None:
            self._events.cancel()
        if self._client is not None:
            with contextlib.suppress(QMPError, EOFError, OSError):
                await self._client.disconnect()
