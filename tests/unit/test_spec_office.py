"""An office's file: what is wrong between its parts is found, with line, field and fix, all at once."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from centralita.ground.errors import Problem, SpecError
from centralita.ground.paths import repo_root
from centralita.spec import patterns
from centralita.spec.tenant import load_tenant
from tests.unit.tenant_files import written

pytestmark = pytest.mark.unit

BASE = {
    "name": "acme",
    "country": "es",
    "trunks": "[{name: main, kind: ip, host: 192.0.2.1, accept_from: [192.0.2.1]}]",
    "outbound": "[{name: land, class: national, patterns: ['[5-9]XXXXXXXX'], trunks: [main]}]",
    "inbound": "[{number: '+34911000100', destination: 'extension:101'}]",
    "extensions": "[{number: 101, name: Ana}, {number: 102, name: Luis, voicemail: false}]",
}


def problems_of(folder: Path, changes: dict[str, str]) -> tuple[Problem, ...]:
    path = written(folder / "tenant.yaml", BASE | changes)
    with pytest.raises(SpecError) as caught:
        load_tenant(path)
    return caught.value.problems


def people(*more: str) -> str:
    return "[{number: 101, name: Ana}, {number: 102, name: Luis, voicemail: false}, " + ", ".join(more) + "]"


MENU = "prompt: {sounds: [beep]}"
WRONG = [
    ({"inbound": "[{number: '911', destination: 'extension:999'}]"}, "inbound[0].destination", "no extension 999"),
    ({"inbound": "[{number: '9110', destination: 'voicemail:102'}]"}, "inbound[0].destination", "no mailbox 102"),
    ({"inbound": "[{number: '9110', destination: 'queue:1'}]"}, "inbound[0].destination", "no queue 1"),
    ({"inbound": "[{number: '9110', destination: 'phone:1'}]"}, "inbound[0].destination", "not a destination"),
    ({"inbound": "[{number: '9110', destination: 'external:0044123'}]"}, "inbound[0].destination", "no rule of"),
    ({"inbound": "[{number: '101', destination: hangup}]"}, "inbound[0].number", "internal number too"),
    ({"groups": "[{number: 101, name: G, members: [101]}]"}, "groups[0].number", "used twice"),
    ({"groups": "[{number: 600, name: G, members: [103]}]"}, "groups[0].members[0]", "no extension 103"),
    ({"groups": "[{number: 112, name: G, members: [101]}]"}, "groups[0].number", "emergency"),
    ({"queues": "[{number: 700, name: Q, agents: [101, 101]}]"}, "queues[0].agents[1]", "twice"),
    ({"queues": "[{number: 700, name: Q, music: jaz}]"}, "queues[0].music", "no music"),
    ({"parking": "{number: 700, slots: 100-105}"}, "parking.slots", "used twice"),
    ({"voicemail": "{number: 101}"}, "voicemail.number", "used twice"),
    ({"codes": "{echo: '*97'}"}, "codes.echo", "code voicemail"),
    ({"codes": "{echo: '*8'}"}, "codes.echo", "pickup"),
    ({"conferences": "[{number: 800, name: C, pin: 1234}]"}, "conferences[0].pin", "run of digits"),
    ({"conferences": "[{number: 800, name: C, pin: 0800}]"}, "conferences[0].pin", "number"),
    ({"conferences": "[{number: 800, name: C, moderator_pin: 1234}]"}, "conferences[0].moderator_pin", "run of digits"),
    (
        {"conferences": "[{number: 800, name: C, pin: 4826, moderator_pin: 4826}]"},
        "conferences[0].moderator_pin",
        "is everybody's",
    ),
    (
        {"queues": "[{number: 700, name: Q, agents: [101], penalties: {'102': 1}}]"},
        "queues[0].penalties.102",
        "no agent",
    ),
    (
        {"queues": "[{number: 700, name: Q, agents: [101], penalties: {'101': 101}}]"},
        "queues[0].penalties.101",
        "too large",
    ),
    ({"inbound": "", "outbound": ""}, "trunks[0]", "no route"),
    ({"outbound": "[{name: aa, class: local, patterns: [X.], trunks: [main]}]"}, "outbound[0].patterns[0]", "int"),
    ({"outbound": "[{name: aa, class: national, patterns: ['+.'], trunks: [main]}]"}, "outbound[0].patterns[0]", "int"),
    (
        {"outbound": "[{name: aa, class: local, patterns: ['9.'], strip: 1, trunks: [main]}]"},
        "outbound[0].patterns[0]",
        "international",
    ),
    (
        {"outbound": "[{name: aa, class: local, patterns: ['9Z'], strip: 2, trunks: [main]}]"},
        "outbound[0].strip",
        "lea",
    ),
    ({"outbound": "[{name: aa, class: local, patterns: ['_9X'], trunks: [main]}]"}, "outbound[0].patterns[0]", "under"),
    (
        {"outbound": "[{name: aa, class: local, patterns: ['9[5-2]'], trunks: [main]}]"},
        "outbound[0].patterns[0]",
        "ran",
    ),
    (
        {"outbound": "[{name: aa, class: emergency, patterns: [1.], trunks: [main]}]"},
        "outbound[0].patterns[0]",
        "emerg",
    ),
    (
        {"outbound": "[{name: aa, class: local, patterns: ['9XX'], trunks: [mian]}]"},
        "outbound[0].trunks[0]",
        "no trunk",
    ),
    ({"trunks": "[{name: main, kind: ip, host: h}]"}, "trunks[0].accept_from", "missing"),
    ({"trunks": "[{name: main, kind: ip, host: h, accept_from: [0.0.0.0/0]}]"}, "trunks[0].accept_from[0]", "half"),
    ({"trunks": "[{name: main, kind: registered, host: h, user: a}]"}, "trunks[0].password", "needs a password"),
    ({"menus": f"[{{number: 900, name: M, {MENU}, fallback: 'menu:900'}}]"}, "menus[0].fallback", "for ever"),
    (
        {
            "extensions": people("{number: 103, name: E, forward: {always: 'external:911000100'}}"),
            "inbound": "[{number: '911000100', destination: 'extension:103'}]",
        },
        "extensions[2].forward.always",
        "extension:103 → the public number 911000100 → extension:103",
    ),
    (
        {"extensions": people("{number: 103, name: E, devices: [{name: aa}, {name: aa}]}")},
        "extensions[2].devices[1].name",
        "twice",
    ),
    (
        {"extensions": people("{number: 103, name: E, devices: [{name: aa, secret: abc}]}")},
        "extensions[2].devices[0].secret",
        "characters",
    ),
    ({"menus": "[{number: 900, name: M, prompt: {}}]"}, "menus[0].prompt", "has 0 of"),
    ({"menus": "[{number: 900, name: M, prompt: {text: a, sounds: [b]}}]"}, "menus[0].prompt", "has 2 of"),
    ({"menus": "[{number: 900, name: M, prompt: {file: x.wav}}]"}, "menus[0].prompt.file", "no file"),
    ({"music": "[{name: aa, files: [x.gsm]}]"}, "music[0].files[0]", "no file"),
    ({"trunks": "[{name: any, kind: ip, host: h, accept_from: []}]"}, "trunks[0].name", "own"),
    ({"trunks": "[{name: h, kind: ip, host: h, accept_from: []}]"}, "trunks[0].name", "short name"),
    ({"music": "[{name: general, files: [x.gsm]}]"}, "music[0].name", "own"),
    ({"extensions_csv": "nothing.csv"}, "extensions_csv", "cannot be read"),
]


@pytest.mark.parametrize(("changes", "field", "message"), WRONG)
def test_what_is_wrong_between_the_parts(tmp_path: Path, changes: dict[str, str], field: str, message: str) -> None:
    found = problems_of(tmp_path, changes)
    place = [p for p in found if p.field == field and message in p.message]
    assert place, found
    assert place[0].line is not None and place[0].fix


def test_the_base_is_right(tmp_path: Path) -> None:
    assert load_tenant(written(tmp_path / "tenant.yaml", BASE)).outbound[0].service == "national"


def test_all_come_at_once(tmp_path: Path) -> None:
    changes = WRONG[0][0] | {"country": "spain", "voicemail": "{number: 101}"}
    found = problems_of(tmp_path, changes | {"conferences": "[{number: 800, name: C, pin: 1234}]"})
    assert {p.field for p in found} >= {"country", "voicemail.number", "conferences[0].pin", "inbound[0].destination"}


def test_rows_of_a_csv_file_are_extensions_and_have_their_own_lines(tmp_path: Path) -> None:
    (tmp_path / "people.csv").write_text(
        "number;name;email;ring_seconds;pin;voicemail\n"
        "201;Ñame;n@example.com;15;4719;yes\n202;Two;;;;no\n101;Again;;3;;\n203;Cut\n",
        encoding="utf-8-sig",
    )
    found = problems_of(tmp_path, {"extensions_csv": "people.csv"})
    file = str(tmp_path / "people.csv")
    assert {(p.file, p.line, p.field) for p in found} == {
        (file, 4, "extensions[4].number"),
        (file, 4, "extensions[4].ring_seconds"),
        (file, 5, "(row)"),
    }


def test_the_office_that_says_everything() -> None:
    tenant = load_tenant(repo_root() / "tests" / "data" / "office.yaml")
    by_number = {extension.number: extension for extension in tenant.extensions}
    assert by_number["150"].dids == ("911000150", "911000151") and by_number["150"].voicemail is not None
    assert by_number["151"].voicemail is None and by_number["151"].name == "O'Neil"
    assert by_number["101"].accounts == ("101", "101-mobile", "101-soft")


def test_super_awesome_company_is_right() -> None:
    tenant = load_tenant(repo_root() / "examples" / "super-awesome.yaml")
    assert len(tenant.extensions) == 15


PATTERN = st.lists(
    st.sampled_from(["X", "Z", "N", "0", "5", "9", "*", "[2-4]", "[07]"]), min_size=1, max_size=5
).flatmap(lambda parts: st.sampled_from(["".join(parts), "".join(parts) + "."]))


@given(first=PATTERN, second=PATTERN, number=st.text("0123456789*#", min_size=1, max_size=7))
def test_a_number_that_both_match_is_an_overlap(first: str, second: str, number: str) -> None:
    one, two = patterns.parse(first), patterns.parse(second)
    if one.matches(number) and two.matches(number):
        assert patterns.overlap(one, two) and patterns.overlap(two, one)


def test_patterns() -> None:
    parse = patterns.parse
    assert parse("00X.").matches("0044") and not parse("00X.").matches("000")
    assert not parse("NXX").matches("112") and parse("NXX").matches("911")
    assert not patterns.overlap(parse("NXX"), parse("NXXX")) and patterns.overlap(parse("N."), parse("NXXX"))
    assert not patterns.overlap(parse("9."), parse("9")) and not patterns.overlap(parse("1X."), parse("2."))
    ordered = sorted(map(parse, ["X.", "NXXXXXX", "9XXXXXX", "976XXXX"]), key=lambda pattern: pattern.rank)
    assert [pattern.text for pattern in ordered] == ["976XXXX", "9XXXXXX", "NXXXXXX", "X."]


def big(folder: Path, extensions: int = 500, queues: int = 40, menus: int = 60) -> Path:
    """A large office's file."""
    lines = ["name: big", "country: es", BASE["trunks"].join(["trunks: ", ""]), "outbound: " + BASE["outbound"]]
    lines.append("extensions:")
    for n in range(1000, 1000 + extensions):
        lines.append(f"  - {{number: {n}, name: Ñame {n}, ring_seconds: 20, dids: ['91100{n}'], "
                     f"caller_id: '91100{n}', voicemail: {{email: a{n}@example.com}}}}")  # fmt: skip
    lines.append("queues:")
    for n in range(4000, 4000 + queues):
        agents = ", ".join(str(1000 + (n * 7 + i) % extensions) for i in range(10))
        lines.append(f"  - {{number: {n}, name: Queue {n}, agents: [{agents}], fallback: 'extension:1000'}}")
    lines.append("menus:")
    for n in range(5000, 5000 + menus):
        keys = ", ".join(f"'{k}': 'queue:{4000 + (n + k) % queues}'" for k in range(10))
        lines.append(f"  - {{number: {n}, name: Menu {n}, {MENU}, direct_dial: true, keys: {{{keys}}}}}")
    path = folder / "big.yaml"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_a_large_office_is_checked_quickly(tmp_path: Path) -> None:
    path = big(tmp_path)
    started = time.process_time()
    assert len(load_tenant(path).extensions) == 500
    assert time.process_time() - started < 2
