"""The lab itself: its networks are closed to the host, give addresses, and leave nothing behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from centralita.ground.errors import CentralitaError
from centralita.ground.ledger import Ledger
from centralita.ground.paths import repo_root
from centralita.ground.run import run
from centralita.lab.net import LabNetwork, Lease
from centralita.lab.netns import NETNS_DIR, enter_argv

SUBNET = IPv4Network("192.0.2.0/24")
GUEST = Lease("02:00:00:00:00:07", IPv4Address("192.0.2.77"))


@pytest.fixture(autouse=True)
def no_call_left() -> None:
    """These tests need no phone."""


def host_network() -> list[str]:
    """The links, addresses and routes of the host's own namespace."""
    return [
        run(["ip", *words]).stdout for words in (("-o", "link"), ("-o", "address"), ("route", "show", "table", "all"))
    ]


def test_two_labs_have_the_same_addresses_and_the_host_none_of_them() -> None:
    before = host_network()
    with LabNetwork(SUBNET) as one, LabNetwork(SUBNET) as other:
        assert one.host_address == other.host_address == IPv4Address("192.0.2.1")
        assert one.add_tap() == other.add_tap() == "tap0"
        assert host_network() == before
        listener = one.socket(kind=socket.SOCK_STREAM)
        with listener:
            listener.bind((str(one.host_address), 0))
            listener.listen()
            port = listener.getsockname()[1]
            assert one.tcp_open(one.host_address, port)
            assert not other.tcp_open(other.host_address, port)
    assert host_network() == before
    assert not (NETNS_DIR / one.name).exists()


def test_a_known_machine_gets_its_address_by_dhcp() -> None:
    with LabNetwork(SUBNET, leases=[GUEST]) as network:
        # A machine's place is taken by a second namespace that asks with its hardware address.
        guest = f"{network.name}-guest"
        ledger = network.ledger
        with ledger.netns(guest):
            run(["ip", "netns", "add", guest])
            peer = ["peer", "name", "eth0", "address", GUEST.mac, "netns", str(NETNS_DIR / guest)]
            run(network.argv(["ip", "link", "add", "veth0", "type", "veth", *peer]))
            run(network.argv(["ip", "link", "set", "veth0", "master", "br0", "up"]))
            run(enter_argv(guest, ["ip", "link", "set", "eth0", "up"]))
            offered = run(enter_argv(guest, [sys.executable, Path(__file__).with_name("dhcp_probe.py"), GUEST.mac]))
            assert offered.stdout.split() == [str(GUEST.address), str(network.host_address)]


def test_a_socket_of_a_network_that_is_gone_is_a_known_error() -> None:
    with LabNetwork(SUBNET) as network:
        pass
    with pytest.raises(CentralitaError, match="cannot open a socket in network namespace"):
        network.socket()


def test_what_a_killed_run_left_is_released(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from ipaddress import IPv4Network, IPv4Address\n"
        "from centralita.lab.net import LabNetwork, Lease\n"
        f"lease = Lease('{GUEST.mac}', IPv4Address('{GUEST.address}'))\n"
        f"with LabNetwork(IPv4Network('{SUBNET}'), leases=[lease]) as network:\n"
        "    print(network.name, flush=True)\n"
        "    sys.stdin.read()\n"
    )
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path), "PYTHONPATH": str(repo_root())}
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True
    ) as child:
        assert child.stdout is not None
        name = child.stdout.readline().strip()
        assert (NETNS_DIR / name).exists()
        child.send_signal(signal.SIGKILL)
    ledger = Ledger(tmp_path / "centralita" / "ledger")
    assert {entry.kind for entry in ledger.orphans()} == {"netns", "process", "tempdir"}
    ledger.release_orphans()
    assert ledger.entries() == []
    assert not (NETNS_DIR / name).exists()
    assert name not in run(["ps", "-eo", "args"]).stdout
