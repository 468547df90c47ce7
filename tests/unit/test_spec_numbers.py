"""Rounds, numbers for help, one's own numbers and others': what a file says of numbers, and what calls make of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from centralita.desk.tenants import explain, show_plan
from centralita.ground.errors import CentralitaError, SpecError
from centralita.spec import routing
from centralita.spec.countries import ALSO_EMERGENCY, EMERGENCY, caller_forms
from centralita.spec.rules import COUNTRIES
from centralita.spec.story import Step, Teller
from centralita.spec.tenant import Tenant, load_tenant
from tests.unit.tenant_files import texts, written

pytestmark = pytest.mark.unit

BASE = {
    "schema": "1",
    "name": "acme",
    "timezone": "Europe/Madrid",
    "country": "es",
    "extensions": "[{number: 101, name: Ana, class: international}, {number: 102, name: Eva}]",
    "trunks": "[{name: main, kind: ip, host: sip.example.com, accept_from: [], did_digits: 9},"
    " {name: two, kind: ip, host: sip2.example.com, accept_from: []}]",
    "inbound": "[{number: '+34911000100', destination: 'extension:101'}]",
    "outbound": "[{name: far, class: international, patterns: ['00.'], trunks: [main]},"
    " {name: near, class: national, patterns: ['[6-9]XXXXXXXX'], trunks: [main, two]}]",
}


def tenant(folder: Path, **changes: str) -> Tenant:
    return load_tenant(written(folder / "acme.yaml", BASE | changes))


def messages(folder: Path, **changes: str) -> list[str]:
    with pytest.raises(SpecError) as caught:
        tenant(folder, **changes)
    return [problem.message for problem in caught.value.problems]


def told(step: Step) -> str:
    return "\n".join(texts(step))


def lines(first: str, second: str = "{number: 102, name: Eva}") -> str:
    return f"[{first}, {second}]"


ROUNDS = [
    ({"extensions": lines("{number: 101, name: A, forward: {busy: 'extension:102'}}",
                          "{number: 102, name: B, forward: {busy: 'extension:101'}}")}, "all of them are busy"),
    ({"extensions": lines("{number: 101, name: A, forward: {busy: 'extension:101'}}")}, "all of them are busy"),
    ({"extensions": lines("{number: 101, name: A, forward: {busy: 'extension:102'}}",
                          "{number: 102, name: B, forward: {always: 'extension:101'}}")}, "all of them are busy"),
    ({"inbound": "[{number: '+34911000100', destination: 'external:911000100'}]"},
     "the public number +34911000100 → the public number +34911000100"),
    ({"inbound": "[{number: '+34911000100', destination: 'external:911000200'},"
                 " {number: '911000200', destination: 'external:0034911000100'}]"}, "goes round for ever"),
    ({"groups": "[{number: 600, name: G, members: [101, 'external:911000200']}]",
      "inbound": "[{number: '911000200', destination: 'group:600'}]"}, "goes round for ever"),
    ({"outbound": "[{name: out, class: national, patterns: ['0[6-9]XXXXXXXX'], strip: 1, trunks: [main]}]",
      "extensions": lines("{number: 101, name: A, forward: {always: 'external:0911000100'}}")}, "goes round for ever"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "message"), ROUNDS)
def test_a_round_is_found(tmp_path: Path, changes: dict[str, str], message: str) -> None:
    assert any(message in found for found in messages(tmp_path, **changes))


def test_a_way_that_only_looks_like_a_round_is_none(tmp_path: Path) -> None:
    # While 101 is busy 102 rings; who answers nowhere ends in a mailbox.
    changes = lines("{number: 101, name: A, forward: {busy: 'extension:102'}}",
                    "{number: 102, name: B, forward: {no_answer: 'voicemail:101', busy: 'voicemail:102'}}")  # fmt: skip
    assert tenant(tmp_path, extensions=changes).extensions[0].forward.busy == "extension:102"


@pytest.mark.parametrize(
    ("country", "numbers"),
    [("de", {"112", "110"}), ("fr", {"112", "15", "17", "18"}), ("es", {"112", "061", "062", "080", "091"})],
)
def test_the_numbers_for_help_of_a_country_go_out(tmp_path: Path, country: str, numbers: set[str]) -> None:
    rule = "[{name: sos, class: emergency, patterns: ['112'], trunks: [two]}, "
    for outbound in (BASE["outbound"], rule + BASE["outbound"][1:]):
        office = tenant(tmp_path, country=country, outbound=outbound, inbound="")
        assert {text for text, _rule in routing.emergencies(office)} == numbers
        assert all("goes outside as" in told(Teller(office).from_extension("102", number)) for number in numbers)
    assert all(rule.trunks == ("two",) for _text, rule in routing.emergencies(office))


def test_what_is_inside_comes_before_an_older_number_for_help_only(tmp_path: Path) -> None:
    people = lines("{number: 113, name: A}")
    office = tenant(tmp_path, country="it", extensions=people, inbound="")
    assert {text for text, _rule in routing.emergencies(office)} == {"112", "115", "118"}
    assert "rings 113" in told(Teller(office).from_extension("102", "113"))
    assert any("110 is an emergency number" in found for found in messages(
        tmp_path, country="de", inbound="", extensions=lines("{number: 110, name: A}")))  # fmt: skip
    assert set(EMERGENCY) | set(ALSO_EMERGENCY) <= {*COUNTRIES, "ie"}


def test_a_call_for_help_is_no_call_to_a_number_of_ones_own(tmp_path: Path) -> None:
    trunks = "[{name: main, kind: ip, host: sip.example.com, accept_from: [], did_digits: 3}]"
    inbound = "[{number: '+4989555112', destination: 'extension:101'}]"
    rule = "[{name: far, class: international, patterns: ['00.'], trunks: [main]}]"
    office = tenant(tmp_path, country="de", trunks=trunks, inbound=inbound, outbound=rule)
    assert "goes outside as 112" in told(Teller(office).from_extension("102", "112"))


@pytest.mark.parametrize("sending", ["patterns: ['112'], prepend: '0044123'", "patterns: ['004412']"])
def test_no_call_for_help_goes_abroad(tmp_path: Path, sending: str) -> None:
    rule = f"[{{name: sos, class: emergency, {sending}, trunks: [main]}}]"
    assert any("is sent as a number abroad" in found for found in messages(tmp_path, outbound=rule))


def test_a_foreign_number_with_the_same_end_is_not_ones_own(tmp_path: Path) -> None:
    teller = Teller(tenant(tmp_path))
    assert "goes outside as 0033911000100" in told(teller.from_extension("101", "0033911000100"))
    assert "the call stays inside" in told(teller.from_extension("101", "0034911000100"))
    assert "the call stays inside" in told(teller.from_extension("101", "911000100"))


def test_a_trunk_s_own_number_comes_first(tmp_path: Path) -> None:
    for order in ((0, 1), (1, 0)):
        items = [
            "{number: '+34911000100', destination: 'extension:101'}",
            "{number: '+34911000100', destination: 'extension:102', trunk: two}",
        ]
        teller = Teller(tenant(tmp_path, inbound=f"[{', '.join(items[i] for i in order)}]"))
        assert "(Eva)" in told(teller.from_trunk("two", "+34911000100"))
        assert "(Ana)" in told(teller.from_trunk("main", "+34911000100"))
        assert "(Ana)" in told(teller.from_extension("101", "911000100"))


def test_one_number_in_two_forms_is_one_number(tmp_path: Path) -> None:
    inbound = "[{number: '+34911000100', destination: 'extension:101'}, {number: '911000100', destination: hangup}]"
    assert any("used twice" in found for found in messages(tmp_path, inbound=inbound))


def test_ends_are_compared_by_the_trunk_that_knows_ends_only(tmp_path: Path) -> None:
    trunks = BASE["trunks"].replace("did_digits: 9", "did_digits: 3")
    number = "{{number: '+34{}000555', destination: 'extension:101', trunk: {}}}"
    apart = f"[{number.format(911, 'two')}, {number.format(912, 'two')}]"
    assert len(tenant(tmp_path, trunks=trunks, inbound=apart).inbound) == 2
    alike = f"[{number.format(911, 'main')}, {number.format(912, 'main')}]"
    assert any("compares ends only" in found for found in messages(tmp_path, trunks=trunks, inbound=alike))
    # The usual thing where an extension is the end of a public number.
    inbound = "[{number: '+34911000101', destination: 'extension:101'}]"
    assert "(Ana)" in told(Teller(tenant(tmp_path, trunks=trunks, inbound=inbound)).from_trunk("main", "101"))


@pytest.mark.parametrize(
    ("text", "country", "forms"),
    [
        ("+34803.", "es", ("34803.", "0034803.", "803.")),
        ("+44909.", "uk", ("44909.", "0044909.", "909.", "0909.")),
        ("803.", "es", ("803.", "34803.", "0034803.")),
        ("+33.", "es", ("33.", "0033.")),
        ("+34.", "es", ("34.", "0034.")),
        ("+1900.", "us", ("1900.", "0111900.", "900.")),
    ],
)
def test_a_pattern_of_callers_is_known_in_each_form(text: str, country: str, forms: tuple[str, ...]) -> None:
    assert set(caller_forms(text, country)) == set(forms)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"parking": "{number: 710, slots: 720-711}"}, "no range"),
        ({"parking": "{number: 710, slots: 95-115}"}, "no range"),
        ({"parking": "{number: 710, slots: 1000-4999}"}, "more than 1000"),
        ({"queues": "[{number: 1700, name: Q, dynamic_agents: [101]}, {number: 700, name: R, dynamic_agents: [101]}]",
          "codes": "{queue_login: '*4', queue_logout: '*41'}"}, "*41700 means two things"),
        ({"extensions": lines("{number: 101, name: A, follow_me: {numbers: ['voicemail:102']}}")}, "cannot be rung"),
        ({"extensions": lines("{number: 101, name: A, follow_me: {numbers: ['extension:101']}}")}, "extension itself"),
        ({"menus": "[{number: 900, name: M, prompt: {sounds: [beep]}, also: [directory]}]"}, "has no number"),
        ({"extensions": lines("{number: 101, name: A, voicemail: {email: a@example.com, delete: true}}")}, "unsent"),
    ],
)  # fmt: skip
def test_what_would_not_work_is_refused(tmp_path: Path, changes: dict[str, str], message: str) -> None:
    assert any(message in found for found in messages(tmp_path, **changes))


def test_a_cell_without_mailbox_counts_more_than_its_pin(tmp_path: Path) -> None:
    (tmp_path / "people.csv").write_text("number,name,voicemail,pin\n105,Nil,no,4827\n106,Bo,yes,4829\n", "utf-8")
    by_number = {line.number: line for line in tenant(tmp_path, extensions_csv="people.csv").extensions}
    assert not by_number["105"].voicemail
    box = by_number["106"].voicemail
    assert box and box.pin == "4829"


def test_a_long_story_tells_each_thing_once(tmp_path: Path) -> None:
    chain = ", ".join(
        f"{{number: {n}, name: N, forward: {{busy: 'extension:{n + 1}', no_answer: 'extension:{n + 1}'}}}}"
        for n in range(201, 231)
    )
    office = tenant(tmp_path, extensions=f"[{chain}, {{number: 231, name: Z}}]", inbound="")
    story = told(Teller(office).from_extension("201", "202"))
    assert len(story.splitlines()) < 2000 and "as above" in story and "voicemail of 231" in story


def test_what_is_left_out_or_cannot_be_written_is_told(tmp_path: Path) -> None:
    path = str(written(tmp_path / "acme.yaml", BASE))
    for caller, number, said in (("101", "", "--dial is missing"), ("", "102", "--from is missing"),
                                 ("109", "102", "109 is neither")):  # fmt: skip
        with pytest.raises(CentralitaError, match=said):
            explain(path, caller, number)
    with pytest.raises(CentralitaError, match="cannot be written"):
        show_plan(path, str(tmp_path / "none" / "plan.svg"))
