"""Super Awesome Company, sentence by sentence, by real calls: examples/super-awesome.yaml."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator

import pytest

from centralita.ground.paths import repo_root
from centralita.lab.phones import Call, Phone
from centralita.spec.tenant import load_tenant
from tests.office.conftest import WAIT_S, Office, hang_up
from tests.office.mail_sink import MailSink

pytestmark = [pytest.mark.calls, pytest.mark.xdist_group("office")]

DIRECT = "256555"
# A phone that sends no sound sends nothing at all, and its keys would be the first packets that Asterisk sees of it.
TONE_HZ = 300.0


@pytest.fixture(autouse=True)
def no_call_left(office: Office) -> Iterator[None]:
    """A test leaves no call to the next one."""
    yield
    hang_up(office)


def until(look: Callable[[], bool], what: str, seconds: float = 15) -> None:
    """Wait until something that Asterisk shows is so."""
    deadline = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < deadline, f"waited {seconds:g} s for {what}"
        time.sleep(0.2)


def running(office: Office, application: str, arguments: str = "") -> bool:
    """Whether a channel of the PBX is in an application with arguments that begin so."""
    for line in office.pbx.cli("core show channels concise").splitlines():
        fields = line.split("!")
        if len(fields) > 6 and fields[5] == application and fields[6].startswith(arguments):
            return True
    return False


def rings(office: Office, caller: Phone, number: str, called: str) -> Call:
    """Call a number and see a phone ring; return the ringing call's other side answered."""
    phone = office.phone(called)
    before = len(phone.phones.events)
    call = caller.call(number)
    incoming = phone.wait_incoming(after=before)
    incoming.answer()
    call.wait_answered()
    return call


@pytest.mark.sentence("1. The office reaches the world over one trunk, which registers at the provider.")
def test_it_loads_without_a_warning_and_the_trunk_registers(office: Office) -> None:
    until(lambda: "Registered" in office.pbx.cli("pjsip show registrations"), "the trunk's registration")
    bad = [line for line in office.pbx.log.splitlines() if re.search(r"\] (WARNING|ERROR)\[", line)]
    assert not bad


@pytest.mark.sentence("2. Fifteen employees, 1101 to 1115, call each other with four digits.")
def test_employees_call_each_other_with_four_digits(office: Office) -> None:
    call = rings(office, office.phone("1101"), "1111", "1111")
    call.hangup()


@pytest.mark.sentence("3. Each has a direct number, 256-555-1101 to 256-555-1115.")
@pytest.mark.parametrize("number", [str(number) for number in range(1101, 1116)])
def test_a_direct_number_rings_its_employee(office: Office, number: str) -> None:
    rings(office, office.world, DIRECT + number, number).hangup()


@pytest.mark.sentence("4. A phone rings for 30 seconds; then the caller hears the unavailable greeting of the mailbox.")
def test_after_thirty_seconds_the_unavailable_greeting(office: Office) -> None:
    office.phone("1102")
    started = time.monotonic()
    call = office.world.call(DIRECT + "1102")
    call.wait_answered(timeout_s=45)
    assert 29 < time.monotonic() - started < 36
    until(lambda: running(office, "VoiceMail", "1102@default,u"), "the unavailable greeting")
    call.hangup()


@pytest.mark.sentence("5. Who is in a call is not rung: the caller hears the busy greeting.")
def test_during_a_call_the_busy_greeting(office: Office) -> None:
    busy = rings(office, office.phone("1101"), "1102", "1102")
    started = time.monotonic()
    call = office.world.call(DIRECT + "1102")
    call.wait_answered()
    assert time.monotonic() - started < 6
    until(lambda: running(office, "VoiceMail", "1102@default,b"), "the busy greeting")
    call.hangup()
    busy.hangup()


@pytest.mark.sentence("6. A message that was left reaches the employee by e-mail, with its sound.")
def test_a_message_reaches_its_employee_by_email(office: Office) -> None:
    assert office.tenant.mail is not None
    office.phone("1103")
    with MailSink(office.pbx.network, office.tenant.mail.port) as sink:
        call = office.world.call(DIRECT + "1103", tone_hz=TONE_HZ)
        call.wait_answered(timeout_s=45)
        call.wait_heard(1)
        call.dtmf("#")
        call.go_on(5)
        call.hangup()
        message = sink.wait("penelope@example.com")
    (sound,) = list(message.iter_attachments())
    content = sound.get_payload(decode=True)
    assert isinstance(content, bytes) and len(content) > 2 * 8000 * 2


@pytest.mark.sentence("7. 8000 opens one's own mailbox from inside without a PIN.")
def test_8000_opens_one_s_own_mailbox_without_a_pin(office: Office) -> None:
    call = office.phone("1101").call("8000")
    call.wait_answered()
    until(lambda: running(office, "VoiceMailMain", "1101@default,s"), "the mailbox")
    call.hangup()


@pytest.mark.sentence("8. 256-555-1234 opens a mailbox from outside by its number and PIN.")
def test_from_outside_voicemail_asks_for_mailbox_and_pin(office: Office) -> None:
    call = office.world.call(DIRECT + "1234", tone_hz=TONE_HZ)
    call.wait_answered()
    until(lambda: running(office, "VoiceMailMain", "@default"), "voicemail")
    call.go_on(3)
    call.dtmf("1101#")
    call.go_on(3)
    call.dtmf(office.pins["1101"] + "#")
    call.go_on(3)
    assert not call.over
    assert "Incorrect password" not in office.pbx.log
    call.hangup()


@pytest.mark.sentence("9. The main menu is 1100 inside and 256-555-1100 outside.")
@pytest.mark.parametrize("number", ["1100", DIRECT + "1100"])
def test_the_main_menu_answers(office: Office, number: str) -> None:
    caller = office.world if number.startswith(DIRECT) else office.phone("1101")
    call = caller.call(number)
    call.wait_answered()
    until(lambda: running(office, "BackGround", "basic-pbx-ivr-main"), "the main menu")
    call.hangup()


KEYS = [("1", "Queue", "1200"), ("2", "Queue", "1250"), ("4", "Directory", "default,extensions")]


@pytest.mark.sentence("10. In it 1 leads to sales, 2 to the customer advocates, 4 to the directory.")
@pytest.mark.parametrize(("key", "application", "arguments"), KEYS)
def test_a_key_of_the_menu_leads_on(office: Office, key: str, application: str, arguments: str) -> None:
    call = office.world.call(DIRECT + "1100", tone_hz=TONE_HZ)
    call.wait_answered()
    call.wait_heard(1)
    call.dtmf(key)
    until(lambda: running(office, application, arguments), f"{application} {arguments}")
    call.hangup()


@pytest.mark.sentence("11. In it 3 leads to accounting, 0 to the operator, and an extension to its employee.")
@pytest.mark.parametrize(("digits", "called"), [("3", "1106"), ("0", "1111"), ("1105", "1105")])
def test_the_menu_reaches_people(office: Office, digits: str, called: str) -> None:
    phone = office.phone(called)
    before = len(phone.phones.events)
    call = office.world.call(DIRECT + "1100", tone_hz=TONE_HZ)
    call.wait_answered()
    call.wait_heard(1)
    call.dtmf(digits)
    phone.wait_incoming(after=before).answer()
    up = re.compile(rf"^PJSIP/{called}-[^\n]*!Up!", re.M)
    until(lambda: up.search(office.pbx.cli("core show channels concise")) is not None, "the answer")
    call.hangup()


@pytest.mark.sentence("12. Where nobody presses a key it repeats twice, and hangs up.")
def test_the_menu_plays_thrice_and_hangs_up(office: Office) -> None:
    call = office.world.call(DIRECT + "1100", tone_hz=TONE_HZ)
    call.wait_answered()
    end = call.wait_ended(timeout_s=150)
    assert end.code == 200 and end.connected_s > 60


@pytest.mark.sentence("13. The sales queue 1200 and the advocates' queue 1250 ring all their agents.")
@pytest.mark.parametrize(("queue", "agents"), [("1200", ("1109", "1105", "1112")), ("1250", ("1101", "1115", "1102"))])
def test_a_queue_rings_all_its_agents(office: Office, queue: str, agents: tuple[str, ...]) -> None:
    declared = next(item for item in office.tenant.queues if item.number == queue)
    assert declared.agents == agents
    phones = [office.phone(number) for number in agents]
    before = {phone.name: len(phone.phones.events) for phone in phones}
    call = office.world.call(DIRECT + queue)
    ringing = [phone.wait_incoming(after=before[phone.name]) for phone in phones]
    ringing[1].answer()
    until(lambda: "talking to" in office.pbx.cli(f"queue show {queue}") or "in call" in office.pbx.cli(
        f"queue show {queue}"), "the agent's call")  # fmt: skip
    call.hangup()


@pytest.mark.sentence("14. Who has waited 5 minutes for sales, or 20 for an advocate, gets the operator.")
@pytest.mark.parametrize("queue", ["1200", "1250"])
def test_who_waits_too_long_in_a_queue_gets_the_operator(office: Office, queue: str) -> None:
    """Five and twenty minutes are declared; here they wait for seconds."""
    declared = load_tenant(repo_root() / "examples" / "super-awesome.yaml").queues
    assert {item.number: item.max_wait_seconds for item in declared} == {"1200": 300, "1250": 1200}
    operator = office.phone("1111")
    before = len(operator.phones.events)
    call = office.world.call(DIRECT + queue)
    operator.wait_incoming(after=before, timeout_s=WAIT_S + 30).answer()
    call.hangup()


@pytest.mark.sentence("15. Who presses 0 in a queue gets the operator.")
def test_zero_in_a_queue_gets_the_operator(office: Office) -> None:
    operator = office.phone("1111")
    before = len(operator.phones.events)
    call = office.world.call(DIRECT + "1200", tone_hz=TONE_HZ)
    call.wait_answered()
    call.wait_heard(1)
    call.dtmf("0")
    operator.wait_incoming(after=before).answer()
    call.hangup()


@pytest.mark.sentence("16. Employees meet in the conference 6000.")
def test_employees_meet_in_6000(office: Office) -> None:
    calls = [office.phone(number).call("6000") for number in ("1101", "1106")]
    for call in calls:
        call.wait_answered()
    until(lambda: re.search(r"^6000 +2 ", office.pbx.cli("confbridge list"), re.M) is not None, "two in the room")
    for call in calls:
        call.hangup()


@pytest.mark.sentence("17. Customers meet employees in 6500, and do not reach 6000.")
def test_customers_meet_employees_in_6500_and_do_not_reach_6000(office: Office) -> None:
    inside = office.phone("1101").call("6500")
    customer = office.world.call(DIRECT + "1100", tone_hz=TONE_HZ)
    customer.wait_answered()
    customer.wait_heard(1)
    customer.dtmf("6000")
    customer.wait_heard(6)
    assert not re.search(r"^6000 ", office.pbx.cli("confbridge list"), re.M)
    customer.dtmf("6500")
    until(lambda: re.search(r"^6500 +2 ", office.pbx.cli("confbridge list"), re.M) is not None, "two in the room", 20)
    inside.hangup()
    customer.hangup()


@pytest.mark.sentence("18. Calls of 7, 10 and 1 and 10 digits go out over the trunk with the employee's own number.")
@pytest.mark.parametrize("number", ["5550123", "3345550123", "13345550123"])
def test_seven_ten_and_eleven_digits_go_out_with_the_employee_s_number(office: Office, number: str) -> None:
    call = office.phone("1104").call(number)
    call.wait_answered()
    whole = {7: "1256", 10: "1", 11: ""}[len(number)] + number
    assert office.dialled() == f"{whole} as {DIRECT}1104"
    call.hangup()


REFUSED = ["9005550123", "19005550123", "9765550", "2569765550", "12569765550", "011442071838750", "00442071838750"]


@pytest.mark.sentence("19. Calls to 900 and 976 and abroad are refused.")
@pytest.mark.parametrize("number", [*REFUSED, "18765550123", "2425550123"])
def test_calls_that_cost_extra_or_go_abroad_are_refused(office: Office, number: str) -> None:
    before = office.dialled()
    end = office.phone("1104").call(number).wait_ended(timeout_s=30)
    assert end.code >= 400 and end.connected_s == 0
    assert office.dialled() == before


@pytest.mark.sentence("20. 911 always goes out.")
def test_911_goes_out(office: Office) -> None:
    call = office.phone("1104").call("911")
    call.wait_answered()
    assert office.dialled() == f"911 as {DIRECT}1104"
    call.hangup()


@pytest.mark.sentence("21. The company's own public numbers are called inside.")
def test_one_s_own_public_number_is_called_inside(office: Office) -> None:
    before = office.dialled()
    rings(office, office.phone("1101"), "12565551111", "1111").hangup()
    assert office.dialled() == before


@pytest.mark.sentence("22. What is no number is refused and dials nothing.")
def test_a_forged_number_is_refused_and_dials_nothing(office: Office) -> None:
    before = office.dialled()
    end = office.phone("1104").call(f"sip:5550123&PJSIP%2Fprovider%2F011@{office.pbx.address}").wait_ended(timeout_s=30)
    assert end.code >= 400 and office.dialled() == before


@pytest.mark.sentence("23. A call to a number that is nobody's is refused.")
def test_a_number_that_is_not_the_company_s_is_refused(office: Office) -> None:
    end = office.world.call(DIRECT + "1299").wait_ended(timeout_s=30)
    assert end.code >= 400
    assert "Trunk provider brought a call to 2565551299: not ours" in office.pbx.log


def test_nothing_was_logged_as_a_warning_but_what_was_refused(office: Office) -> None:
    bad = [line for line in office.pbx.log.splitlines() if re.search(r"\] (WARNING|ERROR)\[", line)]
    # An announcement that is cut off by hanging up is logged too.
    assert [line for line in bad if "forged" not in line and "Failed to playback" not in line] == []
