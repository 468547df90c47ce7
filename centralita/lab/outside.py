"""A clone that runs by another program than QEMU, as a plain process: its output is its console."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from ipaddress import IPv4Address
from pathlib import Path
from types import TracebackType

from centralita.ground import ledger as ledgers
from centralita.ground.errors import CentralitaError
from centralita.ground.run import environment
from centralita.lab import sip
from centralita.lab.net import LabNetwork

_LAST_BYTES = 3000


class Outside:
    """The process as a context manager; it and all that it started are gone when left.

    Example:
        >>> with Outside(["linux.uml", "mem=256M"], network, workdir) as guest:  # doctest: +SKIP
        ...     guest.wait_sip(address, timeout_s=120)
    """

    def __init__(
        self,
        argv: Sequence[str | Path],
        network: LabNetwork,
        workdir: Path,
        *,
        name: str = "guest",
        grace_s: float = 10.0,
    ) -> None:
        self.network = network
        self.console_log = workdir / f"{name}.log"
        self._name, self._argv, self._workdir, self._grace_s = name, argv, workdir, grace_s
        self._stack = ExitStack()
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0

    def __enter__(self) -> Outside:
        with ExitStack() as stack:
            sink = stack.enter_context(self.console_log.open("ab"))
            self._started = time.monotonic()
            self._process = stack.enter_context(
                ledgers.default().process(
                    self.network.argv(self._argv), env=environment(), cwd=self._workdir, stdin=subprocess.PIPE,
                    stdout=sink, stderr=sink, grace_s=self._grace_s,
                )
            )  # fmt: skip
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def console(self) -> str:
        """All that it has said."""
        return self.console_log.read_text(encoding="utf-8", errors="replace")

    def wait_sip(self, address: IPv4Address, *, timeout_s: float) -> sip.SipAnswer:
        """Wait for the first SIP answer; its `seconds` are those since the start. An early end ends the waiting."""
        stop = threading.Event()
        answers: list[sip.SipAnswer] = []

        def probe() -> None:
            found = sip.probe(self.network, address, stop)
            if found is not None:
                answers.append(found)

        thread = threading.Thread(target=probe, daemon=True)
        thread.start()
        try:
            while thread.is_alive():
                thread.join(0.5)
                if self._process is not None and self._process.poll() is not None:
                    raise self._error(f"ended with status {self._process.returncode} before it answered")
                if time.monotonic() - self._started > timeout_s:
                    raise self._error(f"did not answer SIP within {timeout_s:g} s")
        finally:
            stop.set()
            thread.join(5)
        answer = answers[0]
        return sip.SipAnswer(answer.status, answer.reason, time.monotonic() - self._started, answer.server)

    @property
    def pid(self) -> int:
        """The process."""
        assert self._process is not None
        return self._process.pid

    def wait_console(self, text: str, *, timeout_s: float) -> None:
        """Wait until it has said *text*."""
        self.wait_until(lambda: text in self.console, f"say {text!r}", timeout_s=timeout_s)

    def wait_until(self, look: Callable[[], bool], what: str, *, timeout_s: float) -> None:
        """Wait until *look* finds that it did *what*; its end, or `timeout_s` since its start, is an error."""
        while not look():
            if time.monotonic() - self._started > timeout_s:
                raise self._error(f"did not {what} within {timeout_s:g} s")
            if self._process is not None and self._process.poll() is not None and not look():
                raise self._error(f"ended before it did {what}")
            time.sleep(0.2)

    def _error(self, what: str) -> CentralitaError:
        return CentralitaError(f"{self._name} {what}; it said:\n{self.console[-_LAST_BYTES:]}", log=self.console_log)
