"""Waits for a clone's first SIP answer, asked for on its host: only from there is its network sure to be reached."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from ipaddress import IPv4Address

from centralita.ground.errors import CentralitaError
from centralita.hosts import sip
from centralita.hosts.shell import Shell
from centralita.hosts.sip import SipAnswer

#: How long one look at the clone's address takes at most; between two looks the machine's state is asked for.
LOOK_S = 3.0
# bash(1) opens the socket; dd(1) sends and takes a datagram whole, where the shell's own printf and read would cut it.
_BASH = """
exec 3<>"/dev/udp/$1/$2" || exit 1
for try in 1 2 3; do
    printf '%s\\r\\n' "${@:3}" | dd bs=4096 iflag=fullblock status=none >&3
    answer=$(timeout 1 dd bs=65536 count=1 status=none <&3) && printf '%s\\n' "$answer" && exit 0
done
exit 1
"""


def ask(shell: Shell, address: IPv4Address, *, port: int = sip.SIP_PORT) -> SipAnswer | None:
    """Send OPTIONS from the host for at most `LOOK_S` seconds; return the answer, or None."""
    started = time.monotonic()
    if shell.local:
        try:
            return sip.probe(
                lambda: sip.udp_socket(address, port), address, threading.Event(), interval_s=0.5, attempts=6, port=port
            )
        except OSError:  # no way there: the host's network is not up, or is another
            time.sleep(LOOK_S)
            return None
    # The answer comes back to the port that we sent from (rport), whatever the Via says.
    text = sip.options_request(address, ("192.0.2.1", sip.SIP_PORT), tag="deploy").decode()
    done = shell.run(["bash", "-c", _BASH, "bash", str(address), str(port), *text.split("\r\n")[:-1]], check=False)
    seconds = time.monotonic() - started
    answer = sip.parse_answer(done.stdout.encode(), tag="deploy", seconds=seconds)
    if answer is None and seconds < 1:
        time.sleep(LOOK_S - seconds)  # refused at once, because nobody listens or there is no such neighbour yet
    return answer


def first_answer(
    shell: Shell, find: Callable[[], IPv4Address | None], alive: Callable[[], bool], *, timeout_s: float
) -> SipAnswer:
    """Wait until the clone answers; `find` returns its address, `alive` tells whether its machine still runs.

    Raises CentralitaError where that takes longer than `timeout_s`, or the machine is gone.
    """
    deadline = time.monotonic() + timeout_s
    where = "an address that is not known yet"
    while True:
        address = find()
        if address is not None:
            where = str(address)
            answer = ask(shell, address)
            if answer is not None:
                return answer
        else:
            time.sleep(LOOK_S)
        if not alive():
            raise CentralitaError("the machine ended before it answered", hint="look at its console")
        if time.monotonic() > deadline:
            hint = "look at its console; is the host on the clone's network?"
            raise CentralitaError(f"no SIP answer from {where} within {timeout_s:g} s", hint=hint)
