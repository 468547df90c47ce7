"""The phones' client against an agent that only speaks the protocol: no network, no SIP."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address
from pathlib import Path
from typing import cast

import pytest

from centralita.ground.ledger import Ledger
from centralita.lab.net import LabNetwork
from centralita.lab.phone_events import PhonesError
from centralita.lab.phone_library import Interpreter
from centralita.lab.phones import Phones

PBX = IPv4Address("192.0.2.10")
AGENT = """
import json, sys
stats = dict(sent_packets=10, sent_lost_packets=0, received_packets=9, received_lost_packets=1,
    received_discarded_packets=0, received_reordered_packets=0, received_duplicate_packets=0,
    jitter_mean_ms=0.5, jitter_max_ms=1.5, round_trip_ms=2.0)
def tell(event, **data):
    print(json.dumps({"event": event, "time": 1.0, **data}), flush=True)
for line in sys.stdin:
    command = json.loads(line)
    name, number = command["cmd"], command["id"]
    if name == "crash":
        sys.exit("it crashed")
    if name == "phone":
        tell("registration", phone=command["phone"], code=200 if command["secret"] == "right" else 401,
            reason="x", active=command["secret"] == "right")
    if name == "transfer":
        tell("reply", id=number, ok=False, error="no such call")
        continue
    tell("reply", id=number, ok=True, call=7, stats=stats)
    if name == "call":
        tell("call", call=7, phone=command["phone"], state="calling", code=0, reason="")
        if command["uri"].startswith("sip:busy@"):
            tell("call", call=7, phone=command["phone"], state="disconnected", code=486, reason="Busy Here",
                stats=None, connected_s=0)
        else:
            tell("media", call=7, phone=command["phone"], active=True, held=False, codec="PCMA")
            tell("call", call=7, phone=command["phone"], state="confirmed", code=200, reason="OK")
    if name == "hangup":
        tell("call", call=7, phone="a", state="disconnected", code=200, reason="OK", stats=stats, connected_s=4.5)
    if name == "quit":
        break
"""


class NoNetwork:
    """What Phones needs of a network, without one."""

    host_address = IPv4Address("192.0.2.1")

    def argv(self, argv: Sequence[str | Path]) -> list[str]:
        return [str(word) for word in argv]


@pytest.fixture
def phones(tmp_path: Path) -> Iterator[Phones]:
    script = tmp_path / "agent.py"
    script.write_text(AGENT)
    agent = Phones(
        cast(LabNetwork, NoNetwork()),
        workdir=tmp_path / "work",
        interpreter=Interpreter((sys.executable, str(script))),
        library=tmp_path,
        ledger=Ledger(tmp_path / "ledger"),
    )
    with agent:
        yield agent


def test_registrations_are_told_apart(phones: Phones) -> None:
    assert phones.add("a", registrar=PBX, secret="right").wait_registered().active
    refused = phones.add("b", registrar=PBX, secret="wrong").wait_registered()
    assert (refused.code, refused.active) == (401, False)


def test_a_call_is_answered_measured_and_ended(phones: Phones) -> None:
    call = phones.add("a", registrar=PBX, secret="right").call("102")
    call.wait_answered()
    assert call.stats().received_lost_packets == 1
    assert not call.over
    end = call.hangup()
    assert (end.code, end.connected_s) == (200, 4.5)
    assert end.stats is not None and end.stats.jitter_max_ms == 1.5
    assert call.over


def test_waiting_for_an_answer_ends_when_the_call_does(phones: Phones) -> None:
    call = phones.add("a", registrar=PBX, secret="right").call("busy")
    with pytest.raises(PhonesError, match="486 Busy Here"):
        call.wait_answered()


def test_a_refused_command_says_why(phones: Phones) -> None:
    call = phones.add("a", registrar=PBX, secret="right").call("102")
    with pytest.raises(PhonesError, match="no such call"):
        call.transfer("sip:103@192.0.2.10")


def test_an_agent_that_dies_is_noticed_at_once_with_its_last_words(phones: Phones) -> None:
    with pytest.raises(PhonesError, match=r"agent ended(.|\n)*it crashed"):
        phones.command("crash")


def test_no_secret_is_in_the_agent_s_arguments_or_files(phones: Phones) -> None:
    phones.add("a", registrar=PBX, secret="right-secret-of-a")
    for file in phones.workdir.rglob("*"):
        assert b"right-secret-of-a" not in file.read_bytes()
    for entry in phones._ledger.entries():
        assert "right-secret-of-a" not in str(entry.details)


def test_leaving_ends_the_agent(tmp_path: Path, phones: Phones) -> None:
    phones.__exit__(None, None, None)
    assert phones._ledger.entries() == []
