"""Makes a TCP connection and hands it to ssh(1), which asked for it by ProxyCommand with ProxyUseFdpass.

Run inside the lab's namespace: ssh itself stays outside. Standard library only; any Python 3.9 or later will do.
"""

from __future__ import annotations

import socket
import sys


def main(host: str, port: str) -> None:
    """Connect, and pass the connection's descriptor over stdin's socket (unix(7), SCM_RIGHTS)."""
    with socket.socket(fileno=sys.stdout.fileno()) as asker, socket.create_connection((host, int(port)), 30) as found:
        found.setblocking(True)
        socket.send_fds(asker, [b"\0"], [found.fileno()])


if __name__ == "__main__":
    main(*sys.argv[1:])
