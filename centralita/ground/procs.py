"""Processes as /proc shows them (proc(5)): who is who, and ending exactly those that are meant."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
#: The environment variable that marks every process started through the ledger with the ids of its entries.
MARK = "CENTRALITA_LEDGER"


@dataclass(frozen=True)
class Process:
    """A process at the moment of looking. `start_ticks` (since boot) tells it from a later one with the same pid."""

    pid: int
    parent: int
    group: int
    session: int
    start_ticks: int
    zombie: bool

    def alive(self) -> bool:
        """Whether this very process still runs."""
        now = look(self.pid)
        return now is not None and now.start_ticks == self.start_ticks and not now.zombie

    def marks(self) -> tuple[str, ...]:
        """The ledger ids in the environment that the process was started with."""
        try:
            environ = (PROC / str(self.pid) / "environ").read_bytes()
        except OSError:
            return ()
        wanted = MARK.encode() + b"="
        for item in environ.split(b"\0"):
            if item.startswith(wanted):
                return tuple(item[len(wanted) :].decode(errors="replace").split())
        return ()

    def root(self) -> Path | None:
        """The root folder of the process, None where it cannot be read."""
        try:
            return (PROC / str(self.pid) / "root").readlink()
        except OSError:
            return None


def look(pid: int) -> Process | None:
    """The process with this pid, None where there is none."""
    try:
        stat = (PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    # The command name may hold spaces and brackets: the fixed fields come after the last ')'.
    fields = stat.rpartition(")")[2].split()
    return Process(
        pid=pid,
        zombie=fields[0] in "ZX",
        parent=int(fields[1]),
        group=int(fields[2]),
        session=int(fields[3]),
        start_ticks=int(fields[19]),
    )


def snapshot() -> dict[int, Process]:
    """All processes by pid."""
    found = (look(int(entry.name)) for entry in PROC.iterdir() if entry.name.isdigit())
    return {process.pid: process for process in found if process is not None}


def boot_id() -> str:
    """A name for this boot of the kernel; pids and start times mean nothing in another."""
    return (PROC / "sys/kernel/random/boot_id").read_text().strip()


def is_running(pid: int, start_ticks: int, boot: str) -> bool:
    """Whether the process with this pid and start time (in that boot) still runs; a reused pid is another process."""
    if boot != boot_id():
        return False
    process = look(pid)
    return process is not None and process.start_ticks == start_ticks and not process.zombie


def ourselves() -> set[int]:
    """This process and its ancestors, which are never ended from here."""
    kept = set()
    pid = os.getpid()
    while pid and pid not in kept:
        kept.add(pid)
        process = look(pid)
        pid = process.parent if process else 0
    return kept


def with_descendants(chosen: Iterable[Process], everyone: dict[int, Process]) -> set[Process]:
    """The chosen processes and all that descend from them."""
    children: dict[int, list[Process]] = {}
    for process in everyone.values():
        children.setdefault(process.parent, []).append(process)
    found: set[Process] = set()
    queue = list(chosen)
    while queue:
        process = queue.pop()
        if process not in found:
            found.add(process)
            queue.extend(children.get(process.pid, ()))
    return found


def belonging_to(mark: str, leader: tuple[int, int] | None, everyone: dict[int, Process]) -> set[Process]:
    """The living processes of one ledger entry, never ourselves.

    They carry `mark` in their environment, or stand in the group or session of `leader` (pid, start ticks),
    or descend from one of these. A group's number counts only while it is provably ours: its leader is the recorded
    process, or a member carries the mark; the kernel does not give a number away while a group or session bears it.
    """
    chosen = {process for process in everyone.values() if mark in process.marks()}
    if leader is not None:
        pid, start_ticks = leader
        crew = {p for p in everyone.values() if pid in (p.group, p.session) or p.pid == pid}
        first = everyone.get(pid)
        ours = first.start_ticks == start_ticks if first is not None else bool(crew & chosen)
        if ours:
            chosen |= crew
    spared = ourselves()
    return {p for p in with_descendants(chosen, everyone) if not p.zombie and p.pid not in spared}


def command_line(pid: int) -> str:
    """The arguments of a process, empty where it is gone. A child shows its parent's until it runs its own program."""
    try:
        return (PROC / str(pid) / "cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""


def await_births(spawners: set[str], *, give_up_s: float = 2.0) -> None:
    """Waits until no process has one of these command lines any more.

    One that has may be a child of the killed program that has not come to run its own (it is between fork(2) and
    execve(2)); until then it has no mark.
    """
    spared = ourselves()
    started = time.monotonic()
    while spawners and any(
        p.pid not in spared and command_line(p.pid) in spawners for p in snapshot().values() if not p.zombie
    ):
        if time.monotonic() - started > give_up_s:
            return  # the same program, run again by somebody
        time.sleep(0.005)


def inside(folder: Path) -> set[Process]:
    """Processes whose root folder lies at or below `folder`: they were chrooted into it. Never ourselves."""
    spared = ourselves()
    found = set()
    for process in snapshot().values():
        root = process.root()
        if root is not None and root.is_relative_to(folder) and process.pid not in spared:
            found.add(process)
    return found


def send(process: Process, number: signal.Signals) -> None:
    """Sends a signal to this very process; by pidfd, so that a pid reused in between is not hit."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except OSError:
        return
    try:
        if process.alive():
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(descriptor, number)
    finally:
        os.close(descriptor)


def end_all(find: Callable[[], set[Process]], *, grace_s: float = 3.0, give_up_s: float = 10.0) -> int:
    """Ends what `find` finds, until it finds nothing: SIGTERM at first, SIGKILL after `grace_s`.

    Returns how many were ended. Raises TimeoutError where some do not die within `give_up_s` after that
    (they hang in the kernel).
    """
    started = time.monotonic()
    ended: set[Process] = set()
    pause_s = 0.005
    while left := find():
        waited = time.monotonic() - started
        if waited > grace_s + give_up_s:
            raise TimeoutError("still running after SIGKILL: " + ", ".join(str(p.pid) for p in left))
        if not ended or waited >= grace_s:
            # Those that appear in between are at the cleaning up that SIGTERM asked for: they have until SIGKILL.
            for process in left:
                send(process, signal.SIGKILL if waited >= grace_s else signal.SIGTERM)
        ended |= left
        time.sleep(pause_s)
        pause_s = min(pause_s * 2, 0.1)
    return len(ended)
