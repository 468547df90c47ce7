"""What a thief tries: scanning for numbers, guessing passwords, and dialling what is no number."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import suppress

import pytest

from centralita.ground.paths import repo_root
from centralita.ground.run import run
from centralita.lab import sip
from centralita.lab.sip_client import NoAnswerError, SipClient
from centralita.spec.tenant import load_tenant
from tests.calls.test_registration import without_chance
from tests.office.company import Company, company, until

pytestmark = [pytest.mark.calls, pytest.mark.xdist_group("audits")]


@pytest.fixture(scope="module")
def hotel(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Company]:
    """The hotel."""
    tenant = load_tenant(repo_root() / "examples" / "hotel.yaml")
    with company(tenant, request.config.getoption("--appliance"), tmp_path_factory.mktemp("audits")) as made:
        yield made


@pytest.fixture(scope="module")
def guest(hotel: Company) -> Iterator[SipClient]:
    """A registered phone whose user is a thief: an extension that may call abroad, so that only the form of what it
    dials stands between it and the world.
    """
    with SipClient(hotel.pbx.network, hotel.pbx.address, "100", hotel.secrets["100"]) as phone:
        assert phone.register().status == 200
        yield phone


def tool(hotel: Company, name: str, *arguments: str) -> str:
    """Run a tool of SIPVicious against the PBX and return what it says."""
    # The package of Debian 13 puts the project's name before it.
    program = shutil.which(name) or f"sipvicious_{name}"
    argv = [program, *arguments, str(hotel.pbx.address)]
    done = run(hotel.pbx.network.argv(argv), check=False, timeout_s=120)
    return done.stdout + done.stderr


@pytest.mark.parametrize("method", ["REGISTER", "INVITE", "OPTIONS"])
def test_svwar_finds_no_extension(hotel: Company, method: str) -> None:
    said = tool(hotel, "svwar", "-m", method, "-e", "95-225", "--force" if method == "OPTIONS" else "-v")
    found = set(re.findall(r"\|\s*(\d+)\s*\|", said))
    # What is said of all of them, there or not, tells nothing.
    assert not found or found >= {str(number) for number in (95, 150, 225)}, said


def test_svcrack_finds_no_password(hotel: Company) -> None:
    for number in ("100", "201"):
        said = tool(hotel, "svcrack", "-u", number, "-r", "1000-1400", "-z", "4")
        assert not re.search(rf"\|\s*{number}\s*\|", said), said


def test_guessing_says_nothing_of_how_near_a_guess_is(hotel: Company) -> None:
    """SIPVicious knows old servers best, hence a guesser of our own, which knows both algorithms."""
    secret = hotel.secrets["201"]
    for guess in ("201", "1234", secret[:-1], secret.lower(), secret + "x", ""):
        for algorithm in ("MD5", "SHA-256"):
            with SipClient(hotel.pbx.network, hotel.pbx.address, "201", guess, (algorithm,)) as thief:
                assert thief.register().status == 401


@pytest.mark.parametrize("method", ["INVITE", "REGISTER", "SUBSCRIBE", "OPTIONS", "PUBLISH", "MESSAGE"])
def test_whoever_asks_gets_the_same_challenges(hotel: Company, method: str) -> None:
    address = hotel.pbx.address
    uri = f"sip:{address}" if method in ("REGISTER", "OPTIONS") else f"sip:100@{address}"
    answers = {
        user: without_chance(sip.ask(hotel.pbx.network, address, method, uri, user=user) or "")
        for user in ("100", "100-dect", "201", "telco", "nobody", "999999", "asterisk", "anonymous")
    }
    assert answers["nobody"].count("WWW-Authenticate:") == 2
    assert {user for user, answer in answers.items() if answer != answers["nobody"]} == set()


ABROAD = "0044123456"
FORGED = [
    "101&PJSIP%2Ftelco%2F0044123456", "101&Local%2F0044123456%40international", "971222333&PJSIP%2Ftelco%2F1",
    "0044123456,60,g", "0044123456%2C60%2Cg", "0044123456)", "0044123456)%26(", "%24%7BEXTEN%7D", "%24%5B1+1%5D",
    "0044%24%7BSHELL(id)%7D", "101%40telco", "PJSIP%2Ftelco%2F0044123456", "SIP%2Ftelco%2F0044&PJSIP%2Ftelco%2F1",
    "0044123456%0d%0aX", "0044123456%00", "0044%20123456", "+44-123-456", "%EF%BC%90%EF%BC%90%EF%BC%94%EF%BC%94123",
    "00" + "1" * 60, "0" * 300, "112&101", "112,1", "**101&PJSIP%2Ftelco%2F1", "*97,s", "*72&", "600&101",
    "s", "h", "i", "t", "fax",
    "refuse", "out-spain", "Goto", "190%7C1", "500&PJSIP%2Ftelco%2F1", "%2525", "a", "9712223331%3bext=1",
    "971222333%3a1",
]  # fmt: skip


@pytest.mark.parametrize("dialled", FORGED)
def test_what_is_no_number_is_refused_and_logged(hotel: Company, guest: SipClient, dialled: str) -> None:
    before, taken = len(hotel.pbx.log), len(hotel.taken())
    answer = guest.call(f"sip:{dialled}@{hotel.pbx.address}")
    if answer.status == 200:
        guest.hang_up(answer)
    assert 400 <= answer.status < 700 and answer.status != 401
    assert hotel.taken()[taken:] == []
    until(lambda: not hotel.running(), "no channel")
    told = hotel.pbx.log[before:]
    if answer.status not in (400, 414, 416):
        assert re.search(r"forged number|not in service|extension not found|NOTICE", told), told


def test_a_number_that_is_one_is_dialled(hotel: Company, guest: SipClient) -> None:
    taken = len(hotel.taken())
    answer = guest.call(ABROAD)
    assert answer.status == 200 and hotel.taken()[taken:] == ["telco took +44123456 as 971000100"]
    guest.hang_up(answer)


CONTACTS = [
    "sip:120@10.11.0.1:5999&PJSIP/telco/0044123456", "sip:120&PJSIP%2Ftelco%2F0044123456@10.11.0.1:5999",
    "sip:${SHELL(id)}@10.11.0.1:5999", "sip:120,60,g@10.11.0.1:5999", "sip:120@10.11.0.1:5999;x=),Hangup(",
    "sip:120@10.11.0.1:5999;x=/PJSIP/telco/0044123456",
]  # fmt: skip


@pytest.mark.parametrize("contact", CONTACTS)
def test_a_contact_that_is_more_than_an_address_is_not_dialled(hotel: Company, guest: SipClient, contact: str) -> None:
    taken = len(hotel.taken())
    with SipClient(hotel.pbx.network, hotel.pbx.address, "120", hotel.secrets["120"]) as phone:
        # One that is no SIP address is not even answered.
        with suppress(NoAnswerError):
            phone.register(contact)
        answer = guest.call("120")
        assert answer.status >= 400
    assert hotel.taken()[taken:] == []
    hotel.pbx.cli("database deltree registrar/contact 120")


@pytest.mark.parametrize("target", ["101&PJSIP%2Ftelco%2F0044123456", "0044123456,60,g", "%24%7BEXTEN%7D"])
def test_a_transfer_to_what_is_no_number_goes_nowhere(hotel: Company, target: str) -> None:
    taken = len(hotel.taken())
    caller = hotel.phone("110")
    hotel.phone("101").when_called(200)
    call = caller.call("101", tone_hz=300)
    call.wait_answered()
    call.transfer(f"sip:{target}@{hotel.pbx.address}")
    call.phones.wait_event(lambda event: event.name == "transfer" and event.data["code"] >= 200, "an answer", 15)
    assert hotel.taken()[taken:] == []
    hotel.hang_up()


@pytest.mark.parametrize("name", ["${SHELL(id)}", "a&PJSIP/telco/0044", 'x" <999>', "$[1/0]", "a,b;c=>d"])
def test_a_caller_s_name_is_a_name(hotel: Company, name: str) -> None:
    """A display name travels to the phone that rings as it is, and is nothing more than that."""
    with SipClient(hotel.pbx.network, hotel.pbx.address, "101", hotel.secrets["101"]) as phone:
        shown = name.replace("\\", "\\\\").replace('"', '\\"')
        taken = len(hotel.taken())
        extra = (f'P-Asserted-Identity: "{shown}" <sip:0044@x>', f'Remote-Party-ID: "{shown}" <sip:0044@x>')
        answer = phone.ask("INVITE", f"sip:199@{hotel.pbx.address}", extra=extra)
        assert answer.status >= 400 or hotel.taken()[taken:] == []
    hotel.pbx.cli("channel request hangup all")
    until(lambda: not hotel.running(), "no channel")
