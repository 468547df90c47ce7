"""No value of a tenant's file can break out of its place in a configuration file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from jinja2 import UndefinedError

from centralita.clone import quoting
from centralita.clone.identity import Identity
from centralita.clone.quoting import Unquotable
from centralita.clone.render import render
from centralita.ground.errors import CentralitaError, SpecError
from centralita.spec.tenant import Tenant
from tests.unit.asterisk_config import Section, parse, unescape_quoted

pytestmark = pytest.mark.unit

IDENTITY = Identity(
    "acme", "0" * 32, "u", "52:54:00:00:00:01", sip_secrets={"101": "s3cretvalue"}, voicemail_pins={"101": "4719"}
)

HOSTILE = [
    "a;b", "a\\;b", 'a"b', "a\\b", "a\\", '"', '\\"', "x <999>", '" <666>', "a => b", "${EXTEN}", "$[1+1]", "[x](+)",
    '#include "/etc/passwd"', ";-- c", "--; b", "a|b", "a=b", ">x", "!x", "%s%n", "\n[anon]\ntype=endpoint", "a\rb",
    "a\x0bb", "a\x85b", "a\u2028b", "ünï 日本", "😀", "x" * 10_000, ", ,", "a,b", " a", "a ", "\ufeffx",
    "exten => 1,1,Dial(x)", "${SHELL(id)}", "{{ 7*7 }}", "{% raw %}", "\\;--x", "a\\\\;b", ";", "*97", "", "\x00",
]  # fmt: skip

#: Any text, with the characters that mean something to a parser made frequent.
hostile_text = st.one_of(
    st.sampled_from(HOSTILE),
    st.text(alphabet=st.one_of(st.sampled_from(list(";\\\"'<>=,|[]{}()$#!%&\n\r\t -")), st.characters()), max_size=60),
)


def tenant_with(**values: object) -> Tenant:
    """A tenant as the loader makes it; a value that the model refuses raises ValueError."""
    extension = {"number": "101", "name": values.pop("name", "Ana")}
    return Tenant.model_validate({"name": "acme", "extensions": (extension,), **values})


def rendered(tenant: Tenant) -> dict[str, str]:
    return {file.path: file.content.decode() for file in render(tenant, IDENTITY)}


def only(sections: list[Section], name: str, kind: str) -> dict[str, list[str]]:
    (found,) = [s for s in sections if s.name == name and s.options.get("type", [""])[-1] == kind]
    return found.options


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(name=hostile_text, company=hostile_text)
@example(name='" <666>', company="\n[anonymous]\ntype = endpoint")
@example(name="a\\", company=";-- x")
def test_a_name_is_read_back_as_it_was_meant_or_refused(name: str, company: str) -> None:
    try:
        tenant = tenant_with(name=name, company=company)
    except ValueError:
        return  # refused by the model, as the loader would with file and line
    files = rendered(tenant)
    sections = parse(files["/etc/asterisk/pjsip.conf"])
    plain = [
        s.name
        for s in parse(
            {f.path: f for f in render(tenant_with(), IDENTITY)}["/etc/asterisk/pjsip.conf"].content.decode()
        )
    ]
    assert [section.name for section in sections] == plain
    (callerid,) = only(sections, "101", "endpoint")["callerid"]
    shown, _space, number = callerid.rpartition(" ")
    assert unescape_quoted(shown) == name
    assert number == "<101>"
    boxes = {s.name: s.options for s in parse(files["/etc/asterisk/voicemail.conf"])}
    assert set(boxes) == {"general", "zonemessages", "default"}
    assert boxes["default"] == {"101": [f"4719,{name},"]}
    contexts = parse(files["/etc/asterisk/extensions.conf"])
    assert contexts == parse(
        {f.path: f for f in render(tenant_with(), IDENTITY)}["/etc/asterisk/extensions.conf"].content.decode()
    )


@settings(max_examples=300, deadline=None)
@given(value=hostile_text)
def test_a_filter_gives_one_line_that_reads_back_or_refuses(value: str) -> None:
    for quote in (quoting.asterisk, quoting.voicemail):
        try:
            text = quote(value)
        except Unquotable:
            continue
        (section,) = parse(f"[s]\nkey = {text}\n")
        assert section.options == {"key": [value]} or (value == "" and section.options == {"key": [""]})
    try:
        comment = quoting.comment(value)
    except Unquotable:
        return
    assert parse(f"[s]\n; 1 {comment}\nkey = 1\n") == parse("[s]\nkey = 1\n")


@given(value=hostile_text)
def test_digits_and_words_let_nothing_else_through(value: str) -> None:
    for quote, pattern in ((quoting.digits, r"[0-9]+"), (quoting.word, r"[A-Za-z0-9._:/@+-]+")):
        try:
            assert re.fullmatch(pattern, quote(value), re.ASCII)
        except Unquotable:
            assert not re.fullmatch(pattern, value, re.ASCII) or len(value) > 15


def test_a_planted_escape_is_caught() -> None:
    """The parser of this test is not blind: without quoting, the hostile names do break out."""
    (broken, more) = parse("[101]\ncallerid = " + "x\n[anonymous]\ntype = endpoint" + "\n")
    assert more.name == "anonymous"
    assert broken.options == {"callerid": ["x"]}
    assert parse("[s]\nkey = a;b\n")[0].options == {"key": ["a"]}
    assert parse("[s]\na = 1 ;-- x\nb = 2\n--;\nc = 3\n")[0].options == {"a": ["1"], "c": ["3"]}


def hooks(folder: Path, template: str) -> Path:
    (folder / "manifest.yaml").write_text("schema: 1\nfiles:\n  - {path: /etc/x, template: x}\n")
    (folder / "x").write_text(template)
    return folder


def test_a_template_cannot_print_an_unquoted_value(tmp_path: Path) -> None:
    with pytest.raises(CentralitaError, match="without a quoting filter"):
        render(tenant_with(), IDENTITY, hooks(tmp_path, "{{ tenant.name }}"))


def test_a_template_cannot_use_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CentralitaError, match="no attribute 'nmae'") as caught:
        render(tenant_with(), IDENTITY, hooks(tmp_path, "{{ tenant.nmae | word }}"))
    assert isinstance(caught.value.__cause__, UndefinedError)


def test_a_value_that_a_place_cannot_hold_is_a_problem_with_that_place(tmp_path: Path) -> None:
    with pytest.raises(SpecError) as caught:
        render(tenant_with(company="a b"), IDENTITY, hooks(tmp_path, "{{ tenant.company | digits }}"))
    assert caught.value.problems[0].field == "/etc/x"
