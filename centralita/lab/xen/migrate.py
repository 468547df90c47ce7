"""Live migration of a domain from one host of the lab to another, by `xl migrate` over a plain TCP connection.

An admin's hosts use SSH; here both are in one private network, which nobody else is in.
"""

from __future__ import annotations

import shlex
import threading
import time
from ipaddress import IPv4Address

from centralita.ground.errors import CentralitaError
from centralita.lab.xen.domain import XenDomain
from centralita.lab.xen.host import XenHost

PORT = 8002
LOG = "receive.log"
RECEIVE = "/usr/lib/centralita/receive.py"
MIGRATE_TIMEOUT_S = 420.0


def give_address(host: XenHost, address: IPv4Address, prefix: int) -> None:
    """Let dom0 be reached in the lab's network; it has no address before."""
    host.dom0.run(["ip", "address", "add", f"{address}/{prefix}", "dev", "xenbr0"])


def migrate(domain: XenDomain, to: XenHost, address: IPv4Address) -> tuple[XenDomain, float]:
    """Move a running domain to the host `to`, whose dom0 has the `address`; return it there, and the seconds.

    Raises:
        CentralitaError: a toolstack refused it; the words of both are in the message.
    """
    there = XenDomain(to, domain.config)
    there.follow()
    failed: list[CentralitaError] = []
    listening = to.dom0.run(["bash", "-c", f"python3 -I {RECEIVE} {address} {PORT} >/run/receive 2>&1 </dev/null &"])
    assert listening.returncode == 0
    to.dom0.run(["bash", "-c", "until grep -q listening /run/receive; do sleep 0.1; done"], timeout_s=30)
    started = time.monotonic()
    carry = f"exec 3<>/dev/tcp/{address}/{PORT}; cat <&3 & exec cat >&3"

    def send() -> None:
        try:
            words = ("migrate", "-s", "", domain.config.name, f"bash -c {shlex.quote(carry)}")
            domain.host.xl(*words, timeout_s=MIGRATE_TIMEOUT_S)
        except CentralitaError as error:
            failed.append(error)

    thread = threading.Thread(target=send, name="migrate", daemon=True)
    thread.start()
    thread.join(MIGRATE_TIMEOUT_S + 30)
    if failed:
        said = to.dom0.run(["cat", f"/var/log/xen/{LOG}"], check=False).stdout
        raise CentralitaError(f"{failed[0].message}\nthe receiving host said:\n{said}")
    to.refresh()
    return there, time.monotonic() - started
