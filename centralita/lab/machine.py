"""A machine of the lab: QEMU in the lab's namespace, watched by its console, its control channel and its network.

All waiting is for an event. Each wait has a deadline, and ends at once when QEMU ends or the console shows that the
guest will not come up, with the console's last lines in the error.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from ipaddress import IPv4Address
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from centralita.ground import accel
from centralita.ground import ledger as ledgers
from centralita.ground.errors import CentralitaError
from centralita.ground.ledger import Ledger
from centralita.ground.qmp import Qmp, QmpEvent
from centralita.ground.run import environment
from centralita.lab import sip
from centralita.lab.console import ConsoleText
from centralita.lab.firmware import OVMF_DIR, provide_firmware
from centralita.lab.net import LabNetwork
from centralita.lab.qemu import (
    CONSOLE_LOG,
    HVC0_SOCKET,
    QEMU_LOG,
    MachineSpec,
    Wiring,
    qemu_argv,
)

T = TypeVar("T")
CONNECT_TIMEOUT_S = 30.0
# Said by systemd, which would start it again and again.
ASTERISK_FAILED = re.compile(r"^.*Failed to start .*asterisk\.service.*$", re.MULTILINE)


class MachineError(CentralitaError):
    """A machine did not do what was waited for; the message holds the console's last lines."""


class Machine:
    """A QEMU machine as a context manager: powered on when entered, gone when left.

    `network` may be None for a machine without a network card.

    Example:
        >>> with Machine(spec, network, workdir=folder) as machine:  # doctest: +SKIP
        ...     answer = machine.wait_sip(address, timeout_s=120)
        ...     machine.powerdown()
    """

    def __init__(
        self,
        spec: MachineSpec,
        network: LabNetwork | None,
        *,
        workdir: Path,
        ledger: Ledger | None = None,
        accelerator: accel.Accelerator | None = None,
        ovmf_dir: Path = OVMF_DIR,
    ) -> None:
        self.spec = spec
        self.network = network
        self.workdir = workdir
        self.console = ConsoleText()
        self.events: list[QmpEvent] = []
        self._ledger = ledger or ledgers.default()
        self.accelerator = accelerator or accel.probe()
        self._ovmf_dir = ovmf_dir
        self._changed = threading.Condition()
        self._stack = ExitStack()
        self._process: subprocess.Popen[bytes] | None = None
        self._exit_status: int | None = None
        self._serial: socket.socket | None = None
        self._qmp: Qmp | None = None
        self._copies: list[int] = []
        self._power_on = 0.0

    def __enter__(self) -> Machine:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    @property
    def console_log(self) -> Path:
        """The file with all that the serial console said, control sequences included."""
        return self.workdir / CONSOLE_LOG

    @property
    def hvc0_socket(self) -> Path:
        """The Unix socket of the paravirtual console."""
        return self.workdir / HVC0_SOCKET

    def open_hvc0(self) -> socket.socket:
        """Return a new connection to the paravirtual console; it takes one at a time."""
        console = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # By the folder's descriptor, because the socket's address has room for 107 bytes only.
        folder = os.open(self.workdir, os.O_PATH | os.O_DIRECTORY)
        try:
            console.connect(f"/proc/self/fd/{folder}/{HVC0_SOCKET}")
        finally:
            os.close(folder)
        return console

    @property
    def running(self) -> bool:
        """Whether QEMU is there."""
        with self._changed:
            return self._process is not None and self._exit_status is None

    def elapsed_s(self) -> float:
        """Seconds since power on."""
        return time.monotonic() - self._power_on

    def start(self) -> None:
        """Power the machine on and connect to its console and control channel.

        Raises:
            MachineError: QEMU did not start.
        """
        if self._process is not None:
            raise CentralitaError(f"machine {self.spec.name} was started before; make a new one")
        self.workdir.mkdir(parents=True, exist_ok=True)
        provide_firmware(self.spec.firmware, self.workdir, self._ovmf_dir)
        with ExitStack() as stack:
            ours_qmp, theirs_qmp = socket.socketpair()
            ours_serial, theirs_serial = socket.socketpair()
            stack.callback(theirs_qmp.close)
            stack.callback(theirs_serial.close)
            tap = self.network.add_tap() if self.network is not None else None
            argv = qemu_argv(
                self.spec,
                Wiring(self.workdir, theirs_qmp.fileno(), theirs_serial.fileno(), tap),
                accelerator=self.accelerator.name,
                accelerator_args=self.accelerator.qemu_args,
                ovmf_dir=self._ovmf_dir,
            )
            log = stack.enter_context((self.workdir / QEMU_LOG).open("ab"))
            self._power_on = time.monotonic()
            self._process = self._stack.enter_context(
                self._ledger.process(
                    self.network.argv(argv) if self.network is not None else argv,
                    env=environment(),
                    cwd=self.workdir,
                    stdout=log,
                    stderr=log,
                    pass_fds=(theirs_qmp.fileno(), theirs_serial.fileno()),
                )
            )
        self._serial = ours_serial
        self._qmp = Qmp(self.spec.name, ours_qmp, self._on_event)
        reader = threading.Thread(target=self._read_console, name=f"console-{self.spec.name}", daemon=True)
        reader.start()
        threading.Thread(target=self._await_exit, args=(reader,), name=f"exit-{self.spec.name}", daemon=True).start()
        try:
            self._qmp.connect(timeout_s=CONNECT_TIMEOUT_S)
        except CentralitaError as error:
            self.kill()
            raise MachineError(
                f"{error.message}\n{self._qemu_said()}", hint="see QEMU's own messages", log=self.workdir / QEMU_LOG
            ) from error

    def qmp(self, command: str, **arguments: object) -> object:
        """Run a QMP command; arguments with a hyphen are written with an underscore."""
        if self._qmp is None:
            raise CentralitaError(f"machine {self.spec.name} is not started")
        return self._qmp.execute(command, {key.replace("_", "-"): value for key, value in arguments.items()})

    def send(self, keys: str | bytes) -> None:
        """Type on the serial console."""
        if self._serial is None:
            raise CentralitaError(f"machine {self.spec.name} is not started")
        self._serial.sendall(keys.encode() if isinstance(keys, str) else keys)

    @contextlib.contextmanager
    def console_to(self, descriptor: int) -> Iterator[None]:
        """While inside, what the serial console says is also written to `descriptor`, as it comes."""
        with self._changed:
            self._copies.append(descriptor)
        try:
            yield
        finally:
            with self._changed:
                self._copies.remove(descriptor)

    def wait_console(self, pattern: str, *, timeout_s: float, start: int = 0) -> re.Match[str]:
        """Wait until the console's text from offset `start` matches the regular expression, and return the match."""
        compiled = re.compile(pattern, re.MULTILINE)
        return self._wait(
            lambda: self.console.search(compiled, start), f"the console to show {pattern!r}", timeout_s=timeout_s
        )

    def console_seconds(self, match: re.Match[str]) -> float:
        """Return how long after power on the console showed `match` (a result of wait_console)."""
        with self._changed:
            return self.console.seen_at(match.start()) - self._power_on

    def wait_event(self, name: str, *, timeout_s: float, after: int = 0) -> QmpEvent:
        """Wait for QEMU's event `name` among `events[after:]` and return it."""
        return self._wait(
            lambda: next((event for event in self.events[after:] if event.name == name), None),
            f"QEMU's event {name}",
            timeout_s=timeout_s,
        )

    def wait_sip(self, address: IPv4Address, *, timeout_s: float, port: int = sip.SIP_PORT) -> sip.SipAnswer:
        """Wait until the guest answers a SIP OPTIONS request; `seconds` of the answer are those since power on.

        An Asterisk that systemd could not start ends the waiting.
        """
        network = self._need_network()
        answers: list[sip.SipAnswer] = []

        def attempt(stop: threading.Event) -> None:
            answer = sip.probe(network, address, stop, port=port)
            if answer is not None:
                with self._changed:
                    answers.append(sip.SipAnswer(answer.status, answer.reason, self.elapsed_s(), answer.server))
                    self._changed.notify_all()

        what = f"a SIP answer from {address}:{port}"
        return self._wait_beside(attempt, answers, what, timeout_s, hopeless=ASTERISK_FAILED)

    def wait_tcp(self, address: IPv4Address, port: int, *, timeout_s: float) -> float:
        """Wait until the guest accepts TCP connections on `port`; return the seconds since power on."""
        network = self._need_network()
        opened: list[float] = []

        def attempt(stop: threading.Event) -> None:
            while not stop.is_set():
                if network.tcp_open(address, port, timeout_s=1.0):
                    with self._changed:
                        opened.append(self.elapsed_s())
                        self._changed.notify_all()
                    return
                stop.wait(0.2)

        return self._wait_beside(attempt, opened, f"TCP port {port} of {address}", timeout_s)

    def wait_exit(self, *, timeout_s: float) -> int:
        """Wait until QEMU has ended by itself and return its exit status."""
        with self._changed:
            # None waits for ever; threading's own time-outs end at about 292 years.
            limit = timeout_s if math.isfinite(timeout_s) else None
            if not self._changed.wait_for(lambda: self._exit_status is not None, limit):
                raise self._error(f"QEMU to end (waited {timeout_s:g} s)")
            assert self._exit_status is not None
            return self._exit_status

    def powerdown(self, *, timeout_s: float = 120.0) -> float:
        """Press the power button, wait until the guest has shut itself down; return the seconds that it took.

        Raises:
            MachineError: it did not within `timeout_s`; the machine is killed then.
        """
        started = time.monotonic()
        self.qmp("system_powerdown")
        try:
            self.wait_exit(timeout_s=timeout_s)
        except MachineError:
            self.kill()
            raise
        self.kill()
        return time.monotonic() - started

    def kill(self) -> None:
        """Take the power away and release what the machine held. Nothing happens the second time."""
        with contextlib.suppress(ProcessLookupError):
            if self._process is not None and self.running:
                # A guest's power cut is meant, not QEMU's orderly end.
                self._process.kill()
        self._stack.close()
        if self._qmp is not None:
            self._qmp.close()
            self._qmp = None
        if self._serial is not None:
            with contextlib.suppress(OSError):
                self._serial.shutdown(socket.SHUT_RDWR)
            self._serial.close()
            self._serial = None

    # How waiting works: threads change the state under `_changed` and notify; waiters look again.

    def _wait(
        self,
        look: Callable[[], T | None],
        what: str,
        *,
        timeout_s: float,
        hopeless: re.Pattern[str] | None = None,
    ) -> T:
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while True:
                found = look()
                if found is not None:
                    return found
                if self.console.failure is not None:
                    sign = self.console.failure
                    raise self._error(f"{what}, but {sign.meaning}: {sign.text}")
                if hopeless is not None and (seen := self.console.search(hopeless)) is not None:
                    raise self._error(f"{what}, but the console shows: {seen[0].strip()}")
                if self._exit_status is not None:
                    reason = next((e.data.get("reason") for e in self.events if e.name == "SHUTDOWN"), None)
                    because = f" ({reason})" if reason else f" with status {self._exit_status}"
                    raise self._error(f"{what}, but the machine ended{because}")
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    raise self._error(f"{what}, but not within {timeout_s:g} s")
                self._changed.wait(left_s)

    def _wait_beside(
        self,
        attempt: Callable[[threading.Event], None],
        results: list[T],
        what: str,
        timeout_s: float,
        *,
        hopeless: re.Pattern[str] | None = None,
    ) -> T:
        """Wait for the first of `results`, which `attempt` fills in a thread of its own until it is told to stop."""
        stop = threading.Event()
        thread = threading.Thread(target=attempt, args=(stop,), name=f"probe-{self.spec.name}", daemon=True)
        thread.start()
        try:
            return self._wait(lambda: results[0] if results else None, what, timeout_s=timeout_s, hopeless=hopeless)
        finally:
            stop.set()
            thread.join(5.0)

    def _error(self, waited_for: str) -> MachineError:
        lines = self.console.last_lines()
        shown = "\n".join(f"    {line}" for line in lines) or "    (the console is empty)"
        said = self._qemu_said()
        return MachineError(
            f"machine {self.spec.name} ({self.spec.firmware}, {self.accelerator.name}): waited for {waited_for}, "
            f"{self.elapsed_s():.1f} s after power on; the console's last lines:\n{shown}"
            + (f"\n{said}" if said else ""),
            log=self.console_log,
        )

    def _qemu_said(self) -> str:
        log = self.workdir / QEMU_LOG
        text = log.read_text(errors="replace").strip() if log.exists() else ""
        return f"QEMU said:\n    {text[-1500:]}" if text else ""

    def _need_network(self) -> LabNetwork:
        if self.network is None:
            raise CentralitaError(f"machine {self.spec.name} has no network")
        return self.network

    def _on_event(self, name: str, data: Mapping[str, Any]) -> None:
        with self._changed:
            self.events.append(QmpEvent(name, data, self.elapsed_s()))
            self._changed.notify_all()

    def _read_console(self) -> None:
        serial = self._serial
        assert serial is not None
        while True:
            try:
                data = serial.recv(65536)
            except OSError:
                return
            if not data:
                return
            with self._changed:
                self.console.feed(data)
                for descriptor in self._copies:
                    with contextlib.suppress(OSError):
                        os.write(descriptor, data)
                self._changed.notify_all()

    def _await_exit(self, reader: threading.Thread) -> None:
        process = self._process
        assert process is not None
        status = process.wait()
        # The console's last words say why; they come before the news that QEMU ended.
        reader.join(5.0)
        with self._changed:
            self._exit_status = status
            self._changed.notify_all()
