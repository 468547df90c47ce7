"""A domain on the Xen host: created by xl from its file, watched by its console and its state in the hypervisor."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import TypeVar

from centralita.clone.xl import XlConfig
from centralita.ground.accel import Accelerator
from centralita.ground.errors import CentralitaError
from centralita.lab import sip
from centralita.lab.console import ConsoleText
from centralita.lab.machine import MachineError
from centralita.lab.options import EMULATION_OPTIONS
from centralita.lab.xen.config import lab_overrides, serial_log, serial_socket
from centralita.lab.xen.host import DomainState, XenHost

T = TypeVar("T")
CREATE_TIMEOUT_S = 600.0
SAVE_TIMEOUT_S = 600.0
TOOLSTACK_LOG = "xl-{name}.log"
# The trace that explains an end follows the sentence that means it, and xenconsoled is slower than the hypervisor's
# news of a crash: so much silence means that all was said, and so long one waits for it, or for the sentence itself.
SILENCE_S = 2.0
LAST_WORDS_S = 8.0
CRASH_WORDS_S = 20.0


class _TroubleError(Exception):
    """A guest that will not do what is waited for, in words."""


@dataclass(frozen=True)
class Created:
    """How long `xl create` took, in seconds."""

    seconds: float


class XenDomain:
    """One life of a domain. Waiting ends at once when the guest crashes, ends, or says that it will not come up."""

    def __init__(self, host: XenHost, config: XlConfig) -> None:
        self.host = host
        self.config = config
        self.console = ConsoleText()
        self._created = 0.0
        self._seen = False

    @property
    def log_name(self) -> str:
        """The guest's console in dom0 (xenconsoled's name for it)."""
        return f"guest-{self.config.name}.log"

    @property
    def console_log(self) -> Path:
        """The same, as kept outside."""
        return self.host.workdir / self.log_name

    @property
    def config_path(self) -> str:
        """The domain's file in dom0."""
        return f"/etc/xen/{self.config.name}.cfg"

    @property
    def state(self) -> DomainState | None:
        """The domain as last heard of; None when it is not there, or the toolstack is about to bury it."""
        alive = (d for d in self.host.domains.values() if d.uuid == self.config.uuid and not d.dying)
        return next(alive, None)

    @property
    def accelerator(self) -> Accelerator:
        """What runs the Xen host."""
        return self.host.accelerator

    def elapsed_s(self) -> float:
        """Seconds since `xl create` was called."""
        return time.monotonic() - self._created

    def create(self, kernel_options: Sequence[str] = EMULATION_OPTIONS) -> Created:
        """Run `xl create` with the file as it is, and the lab's overrides.

        `kernel_options` reach the guests of pygrub only: GRUB reads the clone's own menu.

        Raises:
            CentralitaError: the toolstack refused it (its words are in the message), or the guest failed at once.
        """
        path = self.config_path
        self.host.dom0.write(path, self.config.text().encode())
        self.follow()
        words = lab_overrides(self.config, kernel_options)
        try:
            self.host.xl("create", path, *words, timeout_s=CREATE_TIMEOUT_S)
        except CentralitaError as error:
            said = self._bootloader_said(error.message)
            raise MachineError(f"{error.message}{said}", log=self.console_log) from error
        self.host.refresh()
        self._seen = True
        return Created(self.elapsed_s())

    def follow(self) -> None:
        """Take what the guest says from now on, and count seconds from here: xl is about to make it."""
        logs = {name: self.console for name in (self.log_name, serial_log(self.config.name))}
        self.host.notify(lambda: self.host.logs.update(logs))
        self._created = time.monotonic()

    @property
    def running(self) -> bool:
        """Whether the domain, and its host, is there."""
        return self.host.running and self.state is not None

    def send(self, keys: str | bytes) -> None:
        """Type on the paravirtual console (hvc0), as `xl console` does."""
        state = self.state
        if state is None:
            raise MachineError(f"domain {self.config.name} is not there")
        found = self.host.dom0.run(["xenstore-read", f"/local/domain/{state.id}/console/tty"])
        self.host.dom0.write(found.stdout.strip(), keys.encode() if isinstance(keys, str) else keys)

    def send_serial(self, keys: str) -> None:
        """Type on the serial port (ttyS0), which HVM guests only have."""
        words = ("import socket, sys", "s = socket.socket(socket.AF_UNIX)", "s.connect(sys.argv[1])")
        send = "; ".join((*words, "s.sendall(sys.argv[2].encode())"))
        self.host.dom0.run(["python3", "-I", "-c", send, serial_socket(self.config.name), keys])

    @contextlib.contextmanager
    def console_to(self, descriptor: int) -> Iterator[None]:
        """While inside, what hvc0 says is also written to `descriptor`, as it comes."""
        copies = self.host.copies.setdefault(self.log_name, [])
        copies.append(descriptor)
        try:
            yield
        finally:
            copies.remove(descriptor)

    def wait_sip(self, address: IPv4Address, *, timeout_s: float, port: int = sip.SIP_PORT) -> sip.SipAnswer:
        """Wait for the answer to a SIP OPTIONS request; its `seconds` are those since `xl create`."""
        network = self.host.network
        assert network is not None
        answers: list[sip.SipAnswer] = []
        stop = threading.Event()

        def ask() -> None:
            answer = sip.probe(network, address, stop, port=port)
            if answer is not None:
                timed = sip.SipAnswer(answer.status, answer.reason, self.elapsed_s(), answer.server)
                self.host.notify(lambda: answers.append(timed))

        thread = threading.Thread(target=ask, name=f"probe-{self.config.name}", daemon=True)
        thread.start()
        try:
            return self._wait(lambda: answers[0] if answers else None, f"a SIP answer from {address}", timeout_s)
        finally:
            stop.set()
            thread.join(5.0)

    def wait_console(self, pattern: str, *, timeout_s: float, start: int = 0) -> re.Match[str]:
        """Wait until the console's text from offset `start` matches the regular expression."""
        compiled = re.compile(pattern, re.MULTILINE)
        return self._wait(lambda: self.console.search(compiled, start), f"the console to show {pattern!r}", timeout_s)

    def wait_end(self, *, timeout_s: float) -> float:
        """Wait until the domain is gone; return the seconds since `xl create`."""
        return self._wait(lambda: self.elapsed_s() if self.state is None else None, "its end", timeout_s)

    def powerdown(self, *, timeout_s: float = 120.0) -> float:
        """Run `xl shutdown` and wait until the guest has shut itself down; return the seconds that it took."""
        started = time.monotonic()
        self.host.xl("shutdown", self.config.name)
        self.wait_end(timeout_s=timeout_s)
        return time.monotonic() - started

    def save(self, path: str) -> float:
        """Run `xl save` into a file, or a block device, of dom0; return the seconds that it took."""
        started = time.monotonic()
        self.host.xl("save", self.config.name, path, timeout_s=SAVE_TIMEOUT_S)
        self.host.watch(lambda: self.state is None or None, "the saved domain to be gone", timeout_s=300)
        return time.monotonic() - started

    def restore(self, path: str) -> float:
        """Run `xl restore`; return the seconds that it took. Waiting goes on as if nothing had been.

        Raises:
            CentralitaError: the toolstack refused it; its words are in the message.
        """
        started = time.monotonic()
        self.host.xl("restore", path, timeout_s=SAVE_TIMEOUT_S)
        self.host.refresh()
        return time.monotonic() - started

    def reboot(self, *, timeout_s: float = 180.0) -> float:
        """Run `xl reboot` and wait until the guest runs anew; return the seconds until then."""
        started = time.monotonic()
        before = self.state
        self.host.xl("reboot", self.config.name)

        def anew() -> bool | None:
            now = self.state
            return True if now is not None and before is not None and now.id != before.id else None

        # Between its two lives the domain is not there.
        self.host.watch(anew, f"domain {self.config.name} to be created again", timeout_s=timeout_s)
        return time.monotonic() - started

    def end(self) -> None:
        """Take its power away; nothing happens when it, or the host, is gone."""
        state = self.state
        if self.host.running and self.host.console.failure is None and state is not None:
            # It may be gone before xl comes to it.
            self.host.xl("destroy", str(state.id), check=False)
            self.host.refresh()
            self.host.watch(lambda: self.state is None or None, f"domain {self.config.name} to be gone", timeout_s=60)

    def trouble(self) -> str | None:
        """What is wrong with the guest, None while nothing is."""
        if self.console.failure is not None:
            return f"{self.console.failure.meaning}: {self.console.failure.text}"
        state = self.state
        if state is None:
            return "the domain is gone" if self._seen else None
        if state.shutdown in ("crash", "watchdog"):
            return f"the domain crashed (state {state.shutdown})"
        return None

    def _wait(self, look: Callable[[], T | None], what: str, timeout_s: float) -> T:
        deadline = time.monotonic() + timeout_s

        def watched() -> T | None:
            found = look()
            if found is not None:
                return found
            trouble = self.trouble()
            if trouble is not None:
                raise _TroubleError(trouble)
            if time.monotonic() >= deadline:
                raise self.error(f"{what}, but not within {timeout_s:g} s")
            return None

        try:
            return self.host.watch(watched, what, timeout_s=timeout_s)
        except _TroubleError as trouble:
            self._hear_last_words()
            # The console explains more than the hypervisor does, and comes later.
            raise self.error(f"{what}, but {self.trouble() or trouble}") from None

    def _hear_last_words(self) -> None:
        heard, since = -1, time.monotonic()
        crashed = self.state is not None and self.state.shutdown == "crash"
        end = since + (CRASH_WORDS_S if crashed else LAST_WORDS_S)
        while (now := time.monotonic()) < end:
            if len(self.console.text) != heard:
                heard, since = len(self.console.text), now
            elif now - since >= SILENCE_S and (self.console.failure is not None or not crashed):
                break
            time.sleep(0.1)

    def _bootloader_said(self, complaint: str) -> str:
        number = re.search(r"/var/log/xen/(bootloader\.\d+\.log)", complaint)
        if number is None:
            return ""
        said = self.host.dom0.run(["cat", f"/var/log/xen/{number[1]}"], check=False).stdout.strip().splitlines()
        return "\nthe boot loader said:\n" + "\n".join(f"    {line}" for line in said[-12:])

    def error(self, waited_for: str) -> MachineError:
        """An error with the last lines of the guest's console, of the toolstack's log and of Xen's console."""
        parts = [
            ("the guest's console", self.console.last_lines(30)),
            ("xl's log", self.host.log(TOOLSTACK_LOG.format(name=self.config.name)).last_lines(6)),
            ("Xen's console", [line for line in self.host.console.last_lines(40) if line.startswith("(XEN)")][-8:]),
        ]
        shown = "\n".join(
            f"{title}:\n" + ("\n".join(f"    {line}" for line in lines) or "    (nothing)") for title, lines in parts
        )
        return MachineError(
            f"domain {self.config.name} ({self.config.target}): waited for {waited_for}, "
            f"{self.elapsed_s():.1f} s after xl create\n{shown}",
            log=self.console_log,
        )
