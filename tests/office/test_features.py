"""What an office's phones can do by code and by number: tests/data/office.yaml, whose phones know only SHA-256."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from centralita.lab import sip
from tests.calls.test_registration import without_chance
from tests.office.conftest import Office, hang_up
from tests.office.test_super_awesome import TONE_HZ, running, until

pytestmark = [pytest.mark.calls, pytest.mark.xdist_group("features")]


@pytest.fixture(autouse=True)
def no_call_left(features: Office) -> Iterator[None]:
    """A test leaves no call to the next one."""
    yield
    hang_up(features)


def code(office: Office, number: str, dialled: str) -> None:
    """Dial a code and let it do its work."""
    call = office.phone(number).call(dialled)
    call.wait_answered()
    call.wait_heard(0.5)
    call.hangup()


def test_it_loads_without_a_warning(features: Office) -> None:
    bad = [line for line in features.pbx.log.splitlines() if re.search(r"\] (WARNING|ERROR)\[", line)]
    # Its trunks' hosts are not there.
    assert [line for line in bad if "10.77.0." not in line] == []


@pytest.mark.parametrize("method", ["INVITE", "OPTIONS", "REGISTER", "SUBSCRIBE"])
def test_a_trunk_s_name_and_a_device_s_are_answered_like_any_other(features: Office, method: str) -> None:
    address = features.pbx.address
    uri = f"sip:{address}" if method in ("REGISTER", "OPTIONS") else f"sip:911000101@{address}"
    answers = {}
    for user in ("main", "spare", "101-mobile", "101", "nobody"):
        answers[user] = without_chance(sip.ask(features.pbx.network, address, method, uri, user=user) or "")
    assert answers["nobody"].startswith("SIP/2.0 401 ") and "SHA-256" in answers["nobody"]
    assert {user for user, answer in answers.items() if answer != answers["nobody"]} == set()


def test_do_not_disturb(features: Office) -> None:
    features.phone("102")
    code(features, "102", "*78")
    call = features.phone("101").call("102")
    call.wait_answered()
    until(lambda: running(features, "VoiceMail", "102@default,b"), "the busy greeting")
    call.hangup()
    code(features, "102", "*79")
    phone = features.phone("102")
    before = len(phone.phones.events)
    call = features.phone("101").call("102")
    phone.wait_incoming(after=before)
    call.hangup()


def test_call_forwarding_is_keyed_in_and_followed(features: Office) -> None:
    setting = features.phone("102").call("*72", tone_hz=TONE_HZ)
    setting.wait_answered()
    setting.wait_heard(1)
    setting.dtmf("150#")
    until(lambda: "150" in features.pbx.cli("database show forward"), "the forwarding")
    setting.hangup()
    target = features.phone("150")
    before = len(target.phones.events)
    call = features.phone("101").call("102")
    target.wait_incoming(after=before).answer()
    call.wait_answered()
    call.hangup()
    code(features, "102", "*73")
    assert "150" not in features.pbx.cli("database show forward")


def test_two_that_forward_to_each_other_do_not_ring_for_ever(features: Office) -> None:
    features.phone("102"), features.phone("150")
    features.pbx.cli("database put forward 102 150")
    features.pbx.cli("database put forward 150 102")
    call = features.phone("101").call("102")
    call.wait_answered(timeout_s=30)
    until(lambda: running(features, "VoiceMail"), "a mailbox")
    call.hangup()
    features.pbx.cli("database deltree forward")


def test_what_stands_in_the_database_is_not_dialled_unless_it_is_a_number(features: Office) -> None:
    phone = features.phone("102")
    features.pbx.cli('database put forward 102 "150&PJSIP/main/0044"')
    before = len(phone.phones.events)
    call = features.phone("101").call("102")
    phone.wait_incoming(after=before)
    call.hangup()
    features.pbx.cli("database deltree forward")


def test_an_extension_forwarded_by_the_file(features: Office) -> None:
    phone = features.phone("102")
    before = len(phone.phones.events)
    call = features.phone("101").call("104")
    phone.wait_incoming(after=before)
    call.hangup()


def test_follow_me_rings_after_the_own_phones(features: Office) -> None:
    features.phone("101")
    phone = features.phone("102")
    before = len(phone.phones.events)
    call = features.phone("150").call("101")
    incoming = phone.wait_incoming(after=before, timeout_s=20)
    incoming.answer(tone_hz=TONE_HZ)
    until(lambda: running(features, "Read", "LOCAL(key)"), "the question")
    incoming.dtmf("1")
    call.wait_answered()
    call.hangup()


def test_a_group_hunts_and_goes_on_to_the_queue(features: Office) -> None:
    first, second = features.phone("101"), features.phone("102")
    before = len(first.phones.events), len(second.phones.events)
    call = features.phone("150").call("601")
    first.wait_incoming(after=before[0])
    second.wait_incoming(after=before[1], timeout_s=20)
    until(lambda: running(features, "Queue", "700"), "the queue", 20)
    call.hangup()


def test_a_page_is_answered_by_phones_that_are_told_to(features: Office) -> None:
    phones = [features.phone("102"), features.phone("101")]
    for phone in phones:
        phone.when_called(200)
    call = features.phone("150").call("500")
    until(lambda: features.pbx.cli("core show channels concise").count("!Up!") >= 5, "the page")
    call.hangup()


def test_a_ringing_call_is_picked_up(features: Office) -> None:
    phone = features.phone("102")
    before = len(phone.phones.events)
    call = features.phone("101").call("102")
    phone.wait_incoming(after=before)
    picking = features.phone("150").call("**102")
    picking.wait_answered()
    call.wait_answered()
    call.hangup()


def test_a_call_is_parked_and_fetched(features: Office) -> None:
    phone = features.phone("102")
    phone.when_called(200)
    call = features.phone("101").call("102", tone_hz=TONE_HZ)
    call.wait_answered()
    call.transfer(f"sip:710@{features.pbx.address}")
    until(lambda: "711" in features.pbx.cli("parking show default"), "the parked call")
    fetching = features.phone("150").call("711")
    fetching.wait_answered()
    until(lambda: "711" not in features.pbx.cli("parking show default").split("Parked Calls")[-1].split("-----")[-1],
          "the place to be free")  # fmt: skip
    fetching.hangup()


def test_dynamic_agents_log_in_and_out_and_others_may_not(features: Office) -> None:
    code(features, "102", "*45700")
    until(lambda: "102 (Local/102@agents/n" in features.pbx.cli("queue show 700"), "the agent")
    code(features, "102", "*46700")
    until(lambda: "102 (Local/102@agents/n" not in features.pbx.cli("queue show 700"), "the agent to be gone")
    end = features.phone("150").call("*45700").wait_ended()
    assert end.code >= 400 and "Local/150@" not in features.pbx.cli("queue show 700")


def test_night_mode_is_switched_and_seen(features: Office) -> None:
    code(features, "101", "*281")
    assert "InUse" in features.pbx.cli("core show hint *281")
    assert "night/hours" in features.pbx.cli("database show night")
    code(features, "101", "*281")
    assert "Idle" in features.pbx.cli("core show hint *281")


def test_a_conference_asks_for_its_pin(features: Office) -> None:
    call = features.phone("101").call("800", tone_hz=TONE_HZ)
    call.wait_answered()
    call.wait_heard(2)
    assert not re.search(r"^800 ", features.pbx.cli("confbridge list"), re.M)
    call.dtmf("4826#")
    until(lambda: re.search(r"^800 ", features.pbx.cli("confbridge list"), re.M) is not None, "the room")
    call.hangup()


def wait_in_room(office: Office, room: str, who: str) -> None:
    until(lambda: re.search(who, office.pbx.cli(f"confbridge list {room}"), re.M) is not None, f"{who} in {room}")


@pytest.mark.parametrize(("room", "guest"), [("802", "4826#"), ("803", "#")])
def test_a_conference_waits_for_its_moderator(features: Office, room: str, guest: str) -> None:
    pins = {"802": "0730195#", "803": "593016#"}
    calls = {}
    for who, keys in (("101", guest), ("150", pins[room])):
        calls[who] = features.phone(who).call(room, tone_hz=TONE_HZ)
        calls[who].wait_answered()
        calls[who].wait_heard(2)
        calls[who].dtmf(keys)
        # Flags: A leads, M marked, W waits for who is marked, w waits just now.
        flags = "Ww" if who == "101" else "AM"
        wait_in_room(features, room, rf"^PJSIP/{who}-\S+ +{flags} ")
    wait_in_room(features, room, r"^PJSIP/101-\S+ +W ")
    for call in calls.values():
        call.hangup()


def test_three_wrong_pins_end_the_call(features: Office) -> None:
    call = features.phone("101").call("802", tone_hz=TONE_HZ)
    call.wait_answered()
    # A wrong PIN is told in 3 s, then the question comes again.
    for heard_s in (2, 8, 14):
        call.wait_heard(heard_s)
        call.dtmf("730195#")
    assert call.wait_ended().connected_s > 14
    assert not re.search(r"^802 ", features.pbx.cli("confbridge list"), re.M)


def test_a_penalty_is_that_of_the_file(features: Office) -> None:
    code(features, "102", "*45700")
    agent = re.compile(r"102 \(Local/102@agents/n.* penalty 2")
    until(lambda: agent.search(features.pbx.cli("queue show 700")) is not None, "the agent")
    code(features, "102", "*46700")


def test_do_not_disturb_by_the_file_until_the_phone_ends_it(features: Office) -> None:
    phone = features.phone("105")
    assert features.phone("101").call("105").wait_ended().code == 486
    code(features, "105", "*79")
    before = len(phone.phones.events)
    call = features.phone("101").call("105")
    phone.wait_incoming(after=before)
    call.hangup()


@pytest.mark.parametrize(("caller", "number"), [("102", "0044123456"), ("150", "0044123456"), ("103", "912345678")])
def test_a_class_of_service_refuses(features: Office, caller: str, number: str) -> None:
    end = features.phone(caller).call(number).wait_ended()
    assert end.code >= 400 and end.connected_s == 0
    assert f"Extension {caller} dialled what its class of service may not" in features.pbx.log
