"""The Xen host: a lab machine that boots Xen and dom0, and whose domains are seen from outside.

Example:
    >>> with LabNetwork(subnet) as network, XenHost(network, workdir, disks) as host:  # doctest: +SKIP
    ...     host.wait_ready(timeout_s=180)
    ...     print(host.xl("list").stdout)
"""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from centralita.ground.run import run
from centralita.lab.console import ConsoleText
from centralita.lab.machine import Machine, MachineError
from centralita.lab.net import LabNetwork
from centralita.lab.xen.channel import Channel, Ran
from centralita.lab.xen.dom0 import Dom0
from centralita.lab.xen.dom0 import dom0 as made_dom0
from centralita.lab.xen.qemu import CONTROL_SOCKET, DISK, INITRAMFS, KERNEL, GuestDisk, host_accelerator, host_spec

T = TypeVar("T")
# Locally administered, and none of Xen's own (00:16:3e); the last byte is the host's number.
MAC = "02:00:00:00:00:{number:02x}"
XL_TIMEOUT_S = 180.0


@dataclass(frozen=True)
class DomainState:
    """A domain as the hypervisor sees it. `shutdown`: why it ended (poweroff, reboot, crash …), None while it runs."""

    id: int
    uuid: str
    shutdown: str | None
    dying: bool


class XenHost(Machine):
    """Powered on when entered; `wait_ready` returns when `xl` can be used."""

    def __init__(
        self,
        network: LabNetwork,
        workdir: Path,
        disks: Sequence[GuestDisk],
        *,
        guests_mib: int,
        dom0: Dom0 | None = None,
        vcpus: int = 1,
        number: int = 1,
    ) -> None:
        self._dom0 = dom0 or made_dom0()
        self.disks = tuple(disks)
        accelerator = host_accelerator()
        spec = host_spec(self._dom0, workdir, MAC.format(number=number), self.disks, guests_mib, vcpus, accelerator)
        super().__init__(spec, network, workdir=workdir, accelerator=accelerator)
        self._channel: Channel | None = None
        self._ready_s: float | None = None
        #: Logs of guests and of the toolstack, by file name; and the domains that there are.
        self.logs: dict[str, ConsoleText] = {}
        self.domains: dict[int, DomainState] = {}
        #: Descriptors that a log is copied to as it comes.
        self.copies: dict[str, list[int]] = {}

    def __enter__(self) -> XenHost:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def start(self) -> None:
        """Power it on."""
        self.workdir.mkdir(parents=True, exist_ok=True)
        for name, target in ((KERNEL, self._dom0.kernel), (INITRAMFS, self._dom0.initramfs)):
            (self.workdir / name).unlink(missing_ok=True)
            (self.workdir / name).symlink_to(target)
        overlay = self.workdir / DISK
        run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", self._dom0.disk.resolve(), overlay])
        super().start()
        self._channel = Channel(self.workdir / CONTROL_SOCKET, self._on_dom0_event)

    def kill(self) -> None:
        """Take the power away; guests end with it."""
        super().kill()
        if self._channel is not None:
            self._channel.close()

    @property
    def dom0(self) -> Channel:
        """The way into dom0."""
        if self._channel is None:
            raise MachineError("the Xen host is not started")
        return self._channel

    def wait_ready(self, *, timeout_s: float) -> float:
        """Wait until dom0's toolstack answers, and name the guests' disks; return the seconds since power on."""
        ready = self._wait(lambda: self._ready_s, "dom0's toolstack", timeout_s=timeout_s)
        for disk in self.disks:
            self.dom0.request("link", serial=disk.serial, path=disk.name)
        return ready

    def xl(self, *words: str, check: bool = True, timeout_s: float = XL_TIMEOUT_S) -> Ran:
        """Run xl(1) in dom0: Xen's own, not Debian's script that looks for it.

        Before a guest begins dom0's clock is set, for a guest takes its own from it. That is NTP's duty on a real host.
        """
        if words[0] in ("create", "restore", "reboot", "migrate"):
            self.dom0.request("clock", seconds=time.time())
        return self.dom0.run(["xl", *words], check=check, timeout_s=timeout_s)

    def refresh(self) -> None:
        """Ask for the domains that there are now; changes are told without asking."""
        found = self.dom0.request("domains")["domains"]
        self.notify(lambda: self._take_domains(found))

    def watch(self, look: Callable[[], T | None], what: str, *, timeout_s: float) -> T:
        """Wait until `look`, called whenever something was heard of the host or of a domain, returns a value.

        Raises:
            MachineError: the host failed, or the time is over; or what `look` raises.
        """
        return self._wait(look, what, timeout_s=timeout_s)

    def notify(self, change: Callable[[], None]) -> None:
        """Change what a `watch` looks at."""
        with self._changed:
            change()
            self._changed.notify_all()

    def log(self, name: str) -> ConsoleText:
        """The text of a log in dom0, empty while there is none."""
        with self._changed:
            return self.logs.setdefault(name, ConsoleText())

    def _on_dom0_event(self, message: Mapping[str, Any]) -> None:
        with self._changed:
            if message["event"] == "ready":
                self._ready_s = self.elapsed_s()
            elif message["event"] == "console":
                self._keep(message["log"], base64.b64decode(message["data"]))
            elif message["event"] == "domains":
                self._take_domains(message["domains"])
            self._changed.notify_all()

    def _take_domains(self, found: Sequence[Mapping[str, Any]]) -> None:
        self.domains = {d["id"]: DomainState(**d) for d in found}

    def _keep(self, name: str, data: bytes) -> None:
        with (self.workdir / Path(name).name).open("ab") as stream:
            stream.write(data)
        for descriptor in self.copies.get(name, []):
            os.write(descriptor, data)
        self.logs.setdefault(name, ConsoleText()).feed(data)
