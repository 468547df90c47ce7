"""A terminal on a machine's console: keys go to the guest as they are, Ctrl-] comes back."""

from __future__ import annotations

import os
import select
import sys
import termios
import tty
from contextlib import AbstractContextManager
from typing import Protocol

LEAVE = b"\x1d"  # Ctrl-], as in telnet and virsh
POLL_S = 0.5


class Consoled(Protocol):
    """A machine, or a domain, with a console."""

    @property
    def running(self) -> bool:
        """Whether it is there."""

    def send(self, keys: str | bytes) -> None:
        """Type on its console."""

    def console_to(self, descriptor: int) -> AbstractContextManager[None]:
        """While inside, what its console says is also written to `descriptor`."""


def attach(machine: Consoled) -> None:
    """Connect this process's terminal with the console until Ctrl-] or the machine's end."""
    inlet, outlet = sys.stdin.fileno(), sys.stdout.fileno()
    os.write(outlet, b"Console; Ctrl-] leaves it, and the machine goes on.\r\n")
    before = termios.tcgetattr(inlet)
    tty.setraw(inlet)
    try:
        with machine.console_to(outlet):
            while machine.running:
                ready, _, _ = select.select([inlet], [], [], POLL_S)
                if not ready:
                    continue
                keys = os.read(inlet, 4096)
                keys, leave, _ = keys.partition(LEAVE)
                if keys:
                    machine.send(keys)
                if leave:
                    return
    finally:
        termios.tcsetattr(inlet, termios.TCSADRAIN, before)
        os.write(outlet, b"\r\n")
