"""Network plans and SIP messages, as text. Nothing is made."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest

from centralita.ground.errors import CentralitaError
from centralita.lab import net, netns, sip

SUBNET = IPv4Network("192.0.2.0/29")


def test_the_lab_takes_the_gateway_s_address_or_the_first_free_one() -> None:
    assert net.host_address_of(SUBNET, gateway=IPv4Address("192.0.2.6")) == IPv4Address("192.0.2.6")
    assert net.host_address_of(SUBNET, taken=[IPv4Address("192.0.2.1")]) == IPv4Address("192.0.2.2")


def test_a_gateway_outside_and_a_full_subnet_are_refused() -> None:
    with pytest.raises(CentralitaError, match=r"198\.51\.100\.1 is not in the network"):
        net.host_address_of(SUBNET, gateway=IPv4Address("198.51.100.1"))
    with pytest.raises(CentralitaError, match="no address is left"):
        net.host_address_of(SUBNET, taken=list(SUBNET.hosts()))


def test_commands_enter_the_namespace_without_ip_netns_exec() -> None:
    argv = netns.enter_argv("ctl-1", ["ip", "link"])
    assert argv == ["nsenter", "--net=/run/netns/ctl-1", "--", "ip", "link"]


def test_dhcp_answers_only_the_known_and_writes_no_file() -> None:
    lease = net.Lease("52:54:00:00:00:01", IPv4Address("192.0.2.3"))
    argv = net.dnsmasq_argv(SUBNET, IPv4Address("192.0.2.1"), [lease])
    assert "--dhcp-host=52:54:00:00:00:01,192.0.2.3" in argv
    assert "--dhcp-range=192.0.2.0,static,255.255.255.248,1h" in argv
    assert {"--leasefile-ro", "--pid-file=", "--conf-file=/dev/null", "--port=0"} <= set(argv)


def test_an_options_request_has_all_mandatory_headers() -> None:
    request = sip.options_request(IPv4Address("192.0.2.3"), ("192.0.2.1", 40000), tag="abc").decode()
    assert request.startswith("OPTIONS sip:192.0.2.3 SIP/2.0\r\n")
    assert request.endswith("\r\n\r\n")
    headers = {line.partition(":")[0] for line in request.split("\r\n")[1:] if line}
    assert {"Via", "Max-Forwards", "From", "To", "Call-ID", "CSeq", "Contact", "Content-Length"} <= headers


def test_only_the_answer_to_our_own_request_counts() -> None:
    datagram = b"SIP/2.0 401 Unauthorized\r\nCall-ID: abc@192.0.2.1\r\nServer: Asterisk PBX 22\r\n\r\n"
    answer = sip.parse_answer(datagram, tag="abc", seconds=0.5)
    assert answer == sip.SipAnswer(401, "Unauthorized", 0.5, "Asterisk PBX 22")
    assert sip.parse_answer(datagram, tag="xyz", seconds=0.5) is None
    assert sip.parse_answer(b"OPTIONS sip:x SIP/2.0\r\nCall-ID: abc\r\n\r\n", tag="abc", seconds=0.5) is None
