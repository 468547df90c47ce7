"""Who may register, and that nobody learns from a refusal which numbers exist."""

from __future__ import annotations

import re

import pytest

from centralita.lab import sip
from centralita.lab.phones import Phone, Phones
from tests.conftest import Pbx

pytestmark = pytest.mark.xdist_group("duo")


def without_chance(answer: str) -> str:
    """An answer's text without what differs from request to request."""
    text = re.sub(r'(nonce|opaque)="[^"]*"', r'\1=""', answer)
    return re.sub(r"(?m)^(Via|Call-ID|From|To):.*$", r"\1:", text)


def test_both_phones_register(pbx: Pbx, anna: Phone, ben: Phone) -> None:
    contacts = pbx.asterisk("pjsip show contacts")
    for phone in (anna, ben):
        assert re.search(rf"Contact:\s+{phone.name}/sip:{phone.name}@{pbx.guest.network.host_address}", contacts)


def test_a_phone_unregisters_and_registers_again(pbx: Pbx, ben: Phone) -> None:
    assert ben.register(False).code == 200
    assert "Contact:  102/" not in pbx.asterisk("pjsip show contacts")
    assert ben.register().active


def test_a_wrong_password_is_refused_like_an_unknown_number(pbx: Pbx, phones: Phones) -> None:
    wrong = phones.add("wrong", user="101", registrar=pbx.guest.address, secret="wrong").wait_registered()
    nobody = phones.add("nobody", user="999", registrar=pbx.guest.address, secret="wrong").wait_registered()
    assert not wrong.active
    assert wrong.code == 401
    assert (nobody.code, nobody.reason, nobody.active) == (wrong.code, wrong.reason, wrong.active)


@pytest.mark.parametrize("method", ["INVITE", "REGISTER", "OPTIONS", "SUBSCRIBE"])
def test_without_credentials_known_and_unknown_get_the_same_answer(pbx: Pbx, method: str) -> None:
    address = pbx.guest.address
    uri = f"sip:{address}" if method in ("REGISTER", "OPTIONS") else f"sip:102@{address}"
    answers = [sip.ask(pbx.guest.network, address, method, uri, user=user) for user in ("101", "999")]
    known, unknown = (without_chance(answer or "") for answer in answers)
    assert known.startswith("SIP/2.0 401 ")
    assert unknown == known


def test_a_call_without_credentials_rings_nowhere(pbx: Pbx, phones: Phones, ben: Phone) -> None:
    before = len(phones.events)
    answer = sip.ask(pbx.guest.network, pbx.guest.address, "INVITE", f"sip:{ben.name}@{pbx.guest.address}", user="101")
    assert answer is not None and answer.startswith("SIP/2.0 401 ")
    assert pbx.asterisk("core show channels count").startswith("0 active channels")
    assert not [event for event in phones.events[before:] if event.name == "incoming"]
