"""Each check of an office's file against several variants of the same mistake, and against what only looks like one."""

from __future__ import annotations

from pathlib import Path

import pytest

from centralita.spec.countries import forms
from centralita.spec.tenant import load_tenant
from tests.unit.test_spec_office import BASE, MENU, people, problems_of

pytestmark = pytest.mark.unit

MAIL = {"mail": "{host: mail.example.com, sender: pbx@example.com}"}
FIXED = {"network": "{method: static, address: 192.0.2.10/24, gateway: 192.0.2.1}"}


def rule(service: str, pattern: str, more: str = "") -> dict[str, str]:
    return {"outbound": f"[{{name: aa, class: {service}, patterns: ['{pattern}'], trunks: [main]{more}}}]"}


WRONG = {
    # unknown destinations, wherever one can stand
    "unknown key": ({"menus": f"[{{number: 900, name: M, {MENU}, keys: {{'1': 'menu:901'}}}}]"}, "no menu 901"),
    "unknown also": ({"menus": f"[{{number: 900, name: M, {MENU}, also: ['queue:1']}}]"}, "no queue 1"),
    "unknown fax": ({"inbound": "[{number: '9110', destination: 'fax:570'}]"}, "no fax 570"),
    "unknown schedule": ({"inbound": "[{number: '9110', destination: 'schedule:day'}]"}, "no schedule day"),
    "unknown forward": ({"extensions": people("{number: 103, name: E, forward: {busy: 'page:5'}}")}, "no page 5"),
    "unknown follower": (
        {"extensions": people("{number: 103, name: E, follow_me: {numbers: ['extension:1']}}")},
        "no extension 1",
    ),
    "unknown night": (
        {"schedules": "[{name: day, hours: [{days: mon, time: '09:00-10:00'}], open: hangup, closed: 'group:9'}]"},
        "no group 9",
    ),
    "unknown queue key": ({"queues": "[{number: 700, name: Q, keys: {'1': 'conference:8'}}]"}, "no conference 8"),
    # numbers used twice, in any two lists
    "queue is extension": ({"queues": "[{number: 101, name: Q, agents: [101]}]"}, "used twice"),
    "fax is extension": ({"faxes": "[{number: 101, name: F, email: f@example.com}]", **MAIL}, "used twice"),
    "page is group": (
        {"pages": "[{number: 600, name: P, members: [101]}]", "groups": "[{number: 600, name: G, members: [101]}]"},
        "used twice",
    ),
    "parking place is menu": ({"parking": "{}", "menus": f"[{{number: 705, name: M, {MENU}}}]"}, "used twice"),
    "night code twice": (
        {
            "schedules": "[{name: aa, hours: [{days: mon, time: '09:00-10:00'}], open: hangup, closed: busy, "
            "night_code: '*1'}, {name: bb, hours: [{days: mon, time: '09:00-10:00'}], open: hangup, closed: busy, "
            "night_code: '*1'}]"
        },
        "used twice",
    ),
    # numbers that shadow feature codes and numbers for help
    "code is voicemail's": ({"codes": "{dnd_on: '*97'}"}, "code voicemail"),
    "code is pickup's": ({"codes": "{forward_on: '*8'}"}, "pickup"),
    "code is a login": (
        {"codes": "{echo: '*45700'}", "queues": "[{number: 700, name: Q, dynamic_agents: [101]}]"},
        "logs into or out of",
    ),
    "code is an extension": ({"codes": "{echo: '101'}"}, "used twice"),
    "extension is 112": ({"extensions": people("{number: 112, name: E}")}, "emergency"),
    # trunks without a route, routes without a trunk
    "second trunk": (
        {
            "trunks": "[{name: main, kind: ip, host: 192.0.2.1, accept_from: [192.0.2.1]}, "
            "{name: more, kind: ip, host: 192.0.2.2, accept_from: []}]",
            "inbound": "[{number: '9110', destination: hangup, trunk: main}]",
        },
        "no route",
    ),
    "inbound of no trunk": ({"inbound": "[{number: '9110', destination: hangup, trunk: mein}]"}, "no trunk 'mein'"),
    # weak secrets and PINs
    "secret is a word": ({"extensions": people("{number: 103, name: E, secret: Password1}")}, "common word"),
    "secret is the number": ({"extensions": people("{number: 103, name: E, secret: 103103103}")}, "number"),
    "secret is short": ({"extensions": people("{number: 103, name: E, secret: aB3$x}")}, "characters"),
    "secret repeats": ({"extensions": people("{number: 103, name: E, secret: abababababab}")}, "repeats"),
    "secret of two": (
        {"extensions": people("{number: 103, name: E, secret: kU7-wq9Lm2, devices: [{name: aa, secret: kU7-wq9Lm2}]}")},
        "same secret",
    ),
    "pin runs": ({"extensions": people("{number: 103, name: E, voicemail: {pin: 9876}}")}, "run of digits"),
    "pin repeats": ({"extensions": people("{number: 103, name: E, voicemail: {pin: '0000'}}")}, "repeated"),
    "pin is the number": ({"extensions": people("{number: 1033, name: E, voicemail: {pin: '1033'}}")}, "number"),
    "room's pin": ({"conferences": "[{number: 800, name: C, pin: 2580}]"}, "thief"),
    # patterns that reach abroad by accident
    "any digits": (rule("national", "X."), "international"),
    "zeros": (rule("local", "0."), "international"),
    "zero and more": (rule("national", "0X."), "international"),
    "two zeros, fixed": (rule("national", "00XXXXXXXXX"), "international"),
    "a plus": (rule("national", "+X."), "international"),
    "own and others": (rule("national", "003X."), "international"),
    "after stripping": (rule("local", "9.", ", strip: 1"), "international"),
    "after prepending": (rule("national", "6XXXXXXXX", ", prepend: '00'"), "international"),
    "a prepended plus": (rule("national", "6XXXXXXXX", ", prepend: '+'"), "international"),
    "strip and prepend": (rule("national", "76XXXXXXXX", ", strip: 1, prepend: '0044'"), "international"),
    "another country": ({**rule("national", "0033."), "also_national": "[it]"}, "international"),
    # rounds without an end
    "two groups": (
        {
            "groups": "[{number: 600, name: G, members: [101], fallback: 'group:601'}, "
            "{number: 601, name: H, members: [101], fallback: 'group:600'}]"
        },
        "for ever",
    ),
    "schedule and menu": (
        {
            "menus": f"[{{number: 900, name: M, {MENU}, fallback: 'schedule:day'}}]",
            "schedules": "[{name: day, hours: [{days: mon, time: '09:00-10:00'}], open: hangup, closed: 'menu:900'}]",
        },
        "for ever",
    ),
    "out and in again": (
        {
            "extensions": people("{number: 103, name: E, forward: {no_answer: 'external:911000100'}}"),
            "inbound": "[{number: '+34911000100', destination: 'extension:103'}]",
        },
        "for ever",
    ),
    "queue to itself": ({"queues": "[{number: 700, name: Q, agents: [101], fallback: 'queue:700'}]"}, "for ever"),
    # faxes, lamps, phones, days
    "fax without mail": ({"faxes": "[{number: 570, name: F, email: f@example.com}]"}, "by e-mail"),
    "lamp of nothing": ({"extensions": people("{number: 103, name: E, blf: [109]}")}, "lamp"),
    "lamp of a code": ({"extensions": people("{number: 103, name: E, blf: ['*97']}")}, "lamp"),
    "mac twice": (
        {
            **FIXED,
            "extensions": people(
                "{number: 103, name: E, phone: {maker: snom, mac: '000413aabbcc'}}",
                "{number: 104, name: F, phone: {maker: snom, mac: '00:04:13:AA:BB:CC'}}",
            ),
        },
        "in line",
    ),
    "mac too short": (
        {**FIXED, "extensions": people("{number: 103, name: E, phone: {maker: snom, mac: '0004'}}")},
        "not a MAC",
    ),
    "unknown maker": (
        {**FIXED, "extensions": people("{number: 103, name: E, phone: {maker: acme, mac: '000413aabbcc'}}")},
        "acme",
    ),
    "phone without a server": (
        {"extensions": people("{number: 103, name: E, phone: {maker: snom, mac: '000413aabbcc'}}")},
        "DHCP",
    ),
    "web phone by a file": (
        {
            **FIXED,
            "extensions": people(
                "{number: 103, name: E, transport: webrtc, phone: {maker: snom, mac: '000413aabbcc'}}"
            ),
        },
        "web page",
    ),
}
DAYS = "[{{name: day, hours: [{{days: mon, time: '09:00-10:00'}}], open: hangup, closed: busy, holidays: [{}]}}]"
for title, holiday, message in (
    ("no such day", "{date: '02-30'}", "no such day"),
    ("no such day of that year", "{date: '2027-02-29'}", "no such day"),
    ("backwards", "{date: '2026-12-24', until: '2026-12-01'}", "before it starts"),
    ("with and without a year", "{date: '2026-12-24', until: '12-26'}", "a year"),
    ("a year long", "{date: '2026-01-01', until: '2026-12-31'}", "more than"),
):
    WRONG[title] = ({"schedules": DAYS.format(holiday)}, message)


@pytest.mark.parametrize("title", WRONG)
def test_a_mistake_is_found(tmp_path: Path, title: str) -> None:
    changes, message = WRONG[title]
    found = problems_of(tmp_path, changes)
    assert any(message in problem.message or message in problem.fix for problem in found), found
    assert all(problem.line is not None and problem.fix for problem in found)


RIGHT: dict[str, dict[str, str]] = {
    "the own country": rule("national", "0034."),
    "the own country with a plus": rule("national", "6XXXXXXXX", ", prepend: '+34'"),
    "another that counts as national": {**rule("national", "0039."), "also_national": "[it]"},
    "abroad where that is meant": rule("international", "00."),
    "fixed digits": rule("local", "9[1-8]XXXXXXX"),
    "a leap day": {"schedules": DAYS.format("{date: '02-29'}")},
    "over New Year": {"schedules": DAYS.format("{date: '12-24', until: '01-06'}")},
    "lamps": {
        "conferences": "[{number: 800, name: C}]",
        "parking": "{}",
        "extensions": people("{number: 103, name: E, blf: [101, 800, 701]}"),
    },
}


@pytest.mark.parametrize("title", RIGHT)
def test_what_looks_like_a_mistake_is_none(tmp_path: Path, title: str) -> None:
    path = tmp_path / "tenant.yaml"
    text = "".join(f"{key}: {value}\n" for key, value in (BASE | RIGHT[title]).items() if value)
    path.write_text(text, encoding="utf-8")
    assert load_tenant(path).name == "acme"


@pytest.mark.parametrize(
    ("number", "country", "wanted"),
    [
        ("+34911000100", "es", {"34911000100", "911000100", "0034911000100"}),
        ("911000100", "es", {"911000100", "34911000100", "0034911000100"}),
        ("+442075550100", "uk", {"442075550100", "2075550100", "02075550100", "00442075550100"}),
        ("02075550100", "uk", {"02075550100", "442075550100", "00442075550100"}),
        ("2565551101", "us", {"2565551101", "12565551101", "01112565551101"}),
        ("+390110000001", "fr", {"390110000001", "00390110000001"}),
        ("+3491", "es", {"3491"} | {"003491"}),
    ],
)
def test_the_forms_of_a_number(number: str, country: str, wanted: set[str]) -> None:
    assert set(forms(number, country)) == wanted
