"""The lab's network: one namespace with one bridge, a tap for each machine, and DHCP where a tenant wants it.

Nothing is ever added to the host's own namespace: no address, no route, no link. So two labs with the same subnet
run beside each other, and a tenant's addresses can never clash with those of the host.
"""

from __future__ import annotations

import secrets
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from types import TracebackType

from centralita.ground import ledger as ledgers
from centralita.ground.errors import CentralitaError
from centralita.ground.ledger import Ledger
from centralita.ground.run import environment, run
from centralita.lab import netns

BRIDGE = "br0"


@dataclass(frozen=True)
class Lease:
    """A DHCP lease that the lab hands out: this hardware address always gets this address."""

    mac: str
    address: IPv4Address


def host_address_of(
    subnet: IPv4Network, *, gateway: IPv4Address | None = None, taken: Sequence[IPv4Address] = ()
) -> IPv4Address:
    """Return the lab's own address in `subnet`: the tenant's gateway, else the first host address that is free.

    Raises:
        CentralitaError: the gateway is not in the subnet, or no address is left.
    """
    if gateway is not None:
        if gateway not in subnet:
            raise CentralitaError(f"the gateway {gateway} is not in the network {subnet}")
        return gateway
    for address in subnet.hosts():
        if address not in taken:
            return address
    raise CentralitaError(f"no address is left in {subnet} for the lab's own side")


def bridge_commands(host: IPv4Address, subnet: IPv4Network, mac: str) -> str:
    """Return the ip(8) batch that sets a fresh namespace up."""
    # A bridge without an address of its own takes its ports' lowest one and so changes it when a machine comes;
    # IPv6 is off because router solicitations and MLD reports would only be noise in captures.
    return "\n".join(
        (
            "link set lo up",
            f"link add {BRIDGE} address {mac} type bridge forward_delay 0 stp_state 0 mcast_snooping 0",
            f"link set {BRIDGE} addrgenmode none",
            f"address add {host}/{subnet.prefixlen} dev {BRIDGE}",
            f"link set {BRIDGE} up",
            # Ask for a booting machine's hardware address five times a second: the default of once a second would
            # be the error of every measured "time to first answer".
            f"ntable change name arp_cache dev {BRIDGE} retrans 200",
            "",
        )
    )


def tap_commands(tap: str) -> str:
    """Return the ip(8) batch that adds one tap device to the bridge."""
    return "\n".join(
        (
            f"tuntap add dev {tap} mode tap",
            f"link set {tap} addrgenmode none",
            f"link set {tap} master {BRIDGE}",
            f"link set {tap} up",
            "",
        )
    )


def dnsmasq_argv(subnet: IPv4Network, host: IPv4Address, leases: Sequence[Lease]) -> list[str]:
    """Return the argument list of a dnsmasq(8) that only does DHCP, only for `leases`, and writes no file."""
    return [
        "dnsmasq",
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--port=0",  # no DNS
        "--pid-file=",
        "--leasefile-ro",
        "--user=root",
        "--group=root",
        "--log-dhcp",
        "--log-facility=-",
        f"--interface={BRIDGE}",
        "--bind-interfaces",
        "--no-ping",  # saves 3 s at each lease; nobody else is on this bridge
        "--dhcp-authoritative",
        f"--dhcp-range={subnet.network_address},static,{subnet.netmask},1h",
        f"--dhcp-option=option:router,{host}",
        *(f"--dhcp-host={lease.mac},{lease.address}" for lease in leases),
    ]


class LabNetwork:
    """A namespace with a bridge, as a context manager.

    Example:
        >>> with LabNetwork(IPv4Network("192.0.2.0/24")) as network:  # doctest: +SKIP
        ...     tap = network.add_tap()
        ...     run(network.argv(["ip", "address"]))
    """

    def __init__(
        self,
        subnet: IPv4Network,
        *,
        host_address: IPv4Address | None = None,
        taken: Sequence[IPv4Address] = (),
        leases: Sequence[Lease] = (),
        ledger: Ledger | None = None,
    ) -> None:
        self.subnet = subnet
        self.leases = tuple(leases)
        self.host_address = host_address_of(
            subnet, gateway=host_address, taken=[*taken, *(lease.address for lease in self.leases)]
        )
        self.name = f"ctl-{secrets.token_hex(4)}"
        self.ledger = ledger or ledgers.default()
        self._stack = ExitStack()
        self._taps = 0
        self.dhcp_log: Path | None = None

    def __enter__(self) -> LabNetwork:
        with ExitStack() as stack:
            stack.enter_context(self.ledger.netns(self.name))
            run(["ip", "netns", "add", self.name])
            mac = ":".join(("02", *(f"{byte:02x}" for byte in secrets.token_bytes(5))))
            self._ip(bridge_commands(self.host_address, self.subnet, mac))
            if self.leases:
                self._start_dhcp(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def argv(self, argv: Sequence[str | Path]) -> list[str]:
        """Return the argument list that runs `argv` inside this network."""
        return netns.enter_argv(self.name, argv)

    def socket(
        self,
        family: socket.AddressFamily = socket.AF_INET,
        kind: socket.SocketKind = socket.SOCK_DGRAM,
    ) -> socket.socket:
        """Return a new socket of this network, usable from any thread."""
        return netns.open_socket(self.name, family, kind)

    def add_tap(self) -> str:
        """Make a tap device on the bridge and return its name. It goes with the namespace."""
        tap = f"tap{self._taps}"
        self._taps += 1
        self._ip(tap_commands(tap))
        return tap

    def tcp_open(self, address: IPv4Address, port: int, *, timeout_s: float = 2.0) -> bool:
        """Return whether something accepts TCP connections at `address`:`port`, seen from this network."""
        with self.socket(kind=socket.SOCK_STREAM) as probe:
            probe.settimeout(timeout_s)
            return probe.connect_ex((str(address), port)) == 0

    def _ip(self, batch: str) -> None:
        run(self.argv(["ip", "-batch", "-"]), stdin=batch.encode())

    def _start_dhcp(self, stack: ExitStack) -> None:
        directory = stack.enter_context(self.ledger.tempdir("ctl-dhcp-"))
        self.dhcp_log = directory / "dnsmasq.log"
        with self.dhcp_log.open("wb") as sink:
            stack.enter_context(
                self.ledger.process(
                    self.argv(dnsmasq_argv(self.subnet, self.host_address, self.leases)),
                    env=environment(),
                    stdout=sink,
                    stderr=sink,
                )
            )
