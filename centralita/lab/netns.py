"""Sockets and commands inside a named network namespace, without entering it as a whole process.

A socket belongs for its whole life to the namespace of the thread that made it, so one short-lived thread that
joins the namespace is enough: what it makes can be used from any other thread afterwards. `ip netns exec` is not
used anywhere because it remounts /sys and so needs `/` to be a mount point, which it is not in a chroot.
"""

from __future__ import annotations

import ctypes
import os
import socket
import threading
from collections.abc import Sequence
from pathlib import Path

from centralita.ground.errors import CentralitaError

NETNS_DIR = Path("/run/netns")
CLONE_NEWNET = 0x40000000  # <linux/sched.h>


def enter_argv(name: str, argv: Sequence[str | Path]) -> list[str]:
    """Return the argument list that runs `argv` in the namespace `name` (nsenter(1) then execs it: same pid)."""
    return ["nsenter", f"--net={NETNS_DIR / name}", "--", *(str(word) for word in argv)]


def open_socket(name: str, family: socket.AddressFamily, kind: socket.SocketKind) -> socket.socket:
    """Return a new socket that lives in the namespace `name`.

    Raises:
        CentralitaError: the namespace is not there, or this process may not join it (it needs CAP_SYS_ADMIN).
    """
    made: list[socket.socket] = []
    failed: list[OSError] = []

    def make() -> None:
        try:
            descriptor = os.open(NETNS_DIR / name, os.O_RDONLY | os.O_CLOEXEC)
            try:
                # os.setns() is in Python from 3.12 only.
                libc = ctypes.CDLL(None, use_errno=True)
                if libc.setns(descriptor, CLONE_NEWNET) != 0:
                    number = ctypes.get_errno()
                    raise OSError(number, os.strerror(number))
            finally:
                os.close(descriptor)
            made.append(socket.socket(family, kind))
        except OSError as error:
            failed.append(error)

    # The thread ends here and takes its changed namespace with it.
    thread = threading.Thread(target=make, name=f"netns-{name}")
    thread.start()
    thread.join()
    if failed:
        raise CentralitaError(
            f"cannot open a socket in network namespace {name}: {failed[0]}",
            hint="the lab needs root, and the namespace must exist (ip netns list)",
        ) from failed[0]
    return made[0]
