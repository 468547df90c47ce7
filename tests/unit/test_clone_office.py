"""An office's configuration: no name, password, label or pattern of its file breaks out of its place."""

from __future__ import annotations

import re
import time
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from centralita.clone import quoting
from centralita.clone.identity import Identity
from centralita.clone.quoting import Unquotable
from centralita.clone.render import render
from centralita.ground.errors import SpecError
from centralita.ground.paths import repo_root
from centralita.spec.tenant import Tenant, load_tenant
from tests.unit.asterisk_config import Section, parse
from tests.unit.test_clone_quoting import hostile_text
from tests.unit.test_spec_office import big

pytestmark = pytest.mark.unit

CONFIGS = ("pjsip", "pjsip_trunks", "extensions", "voicemail", "queues", "confbridge", "musiconhold", "res_parking")


class Anybody(dict[str, str]):
    """A secret for everybody."""

    def __missing__(self, key: str) -> str:
        return "947261"


IDENTITY = Identity(
    "t", "0" * 32, "u", "52:54:00:00:00:01", (), Anybody(), Anybody(), tls_key="QUJD\n", tls_certificate="QUJD\n"
)


@cache
def office() -> Tenant:
    return load_tenant(repo_root() / "tests" / "data" / "office.yaml")


def sections(tenant: Tenant) -> dict[str, list[Section]]:
    files = {file.path: file.content.decode() for file in render(tenant, IDENTITY) if file.path.endswith(".conf")}
    return {name: parse(_without_include(files[f"/etc/asterisk/{name}.conf"])) for name in CONFIGS}


def _without_include(text: str) -> str:
    assert text.count("\n#") <= 1
    return text.replace('\n#include "pjsip_trunks.conf"\n', "\n")


@cache
def reference() -> dict[str, list[Section]]:
    return sections(office())


def with_texts(name: str, password: str) -> Tenant:
    """The office with a hostile text wherever the file may hold a free one. Raises ValueError where it may not."""
    data = office().model_dump(by_alias=True, exclude_unset=True)
    data["company"] = name
    for key in ("groups", "queues", "menus", "conferences", "pages", "extensions"):
        for item in data[key]:
            item["name"] = name
    for trunk in data["trunks"]:
        if trunk.get("password"):
            trunk["password"] = password
    data["schedules"][0]["holidays"][0]["name"] = name[:80]
    made = Tenant.model_validate(data)
    made._folder = office().folder
    return made


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(name=hostile_text, password=hostile_text)
def test_free_texts_stay_in_their_places(name: str, password: str) -> None:
    try:
        tenant = with_texts(name, password)
    except ValidationError:
        return  # refused by the model, as the loader would with file and line
    try:
        found = sections(tenant)
    except SpecError:
        assert any(character < " " or character in ">" or not character.isprintable() for character in password) or (
            password != password.strip() or len(password) > 1000
        )
        return  # a trunk's password that Asterisk cannot hold
    for config, wanted in reference().items():
        assert [s.name for s in found[config]] == [s.name for s in wanted], config
    assert found["extensions"] == reference()["extensions"]
    assert found["queues"] == reference()["queues"] and found["confbridge"] == reference()["confbridge"]
    auth = next(s for s in found["pjsip_trunks"] if s.options["type"] == ["auth"])
    assert auth.options["password"] == [password]


def test_the_office_with_other_texts_is_read_back() -> None:
    """The property above is not empty: harmless texts, and some that are not, do get through."""
    for name in ("Ana", "O'Neil \\ <x>; [y]", "${EXTEN} => 1"):
        assert [s.name for s in sections(with_texts(name, "a;b\\"))["pjsip"]] == [s.name for s in reference()["pjsip"]]


SINGLE: list[tuple[Any, str]] = [
    (quoting.dial, r"\+?[0-9*#]+"),
    (quoting.slug, r"[a-z0-9][a-z0-9-]*"),
    (quoting.sound, r"[A-Za-z0-9/_-]+"),
    (quoting.plain, r"[\w .'/-]+"),
    (quoting.pattern, r"_?([0-9*#+XZN.]|\[[0-9*#+-]+\])+"),
    (quoting.goto, r"(Goto\([a-z]+,[a-z0-9*#+-]+,1\)|Hangup\(16\)|Busy\(10\))"),
    (quoting.words, r"[a-z,]+"),
    (quoting.option, r"[a-z]+=[a-z]+"),
    (quoting.pem, r"[A-Za-z0-9+/= \n-]+"),
]


@settings(max_examples=300, deadline=None)
@given(value=hostile_text, which=st.sampled_from(SINGLE))
def test_what_stands_in_the_dial_plan_has_one_form(value: str, which: tuple[Any, str]) -> None:
    quote, form = which
    try:
        text = quote(value)
    except Unquotable:
        return
    assert re.fullmatch(form, text), (quote, value)


@settings(max_examples=200, deadline=None)
@given(number=st.text("0123456789*#+XZN[]-._&/${},", min_size=1, max_size=12))
def test_no_pattern_and_no_destination_is_more_than_that(number: str) -> None:
    for make, form in ((quoting.pattern, SINGLE[4][1]), (lambda text: quoting.goto(f"external:{text}"), SINGLE[5][1])):
        try:
            assert re.fullmatch(form, make(number))
        except Unquotable:
            continue


@given(value=hostile_text)
def test_msmtp_reads_back_what_was_meant(value: str) -> None:
    try:
        text = quoting.msmtp(value)
    except Unquotable:
        return
    assert text == f'"{value}"' and '"' not in value and "\n" not in value


def test_trunks_passwords_are_only_where_only_asterisk_reads_them() -> None:
    files = {file.path: file for file in render(office(), IDENTITY)}
    holding = {path for path, file in files.items() if b"Tr\\;unk-secret" in file.content or b"Tr;unk" in file.content}
    assert holding == {"/etc/asterisk/pjsip_trunks.conf"}
    trunks = files["/etc/asterisk/pjsip_trunks.conf"]
    assert (trunks.owner, trunks.group, trunks.mode, trunks.secret) == ("asterisk", "asterisk", 0o600, True)
    assert files["/etc/asterisk/keys/tls.key"].mode == 0o600 and files["/etc/asterisk/msmtprc"].mode == 0o600


def test_one_list_of_digest_algorithms_everywhere() -> None:
    tenant = office()
    assert tenant.digest == ("SHA-256",)
    for section in reference()["pjsip"]:
        for key, values in section.options.items():
            if "algorithms" in key:
                assert values == ["SHA-256"], section.name
            if key == "password_digest":
                assert all(value.startswith("SHA-256:") for value in values)


def test_a_class_finds_what_it_may_and_is_refused_the_rest() -> None:
    found = {section.name: section.options.get("exten", []) for section in reference()["extensions"]}
    assert "_00X.,1,Goto(refuse,forbidden,1)" in found["outside-national"]
    assert "_00X.,1,Goto(refuse,forbidden,1)" not in found["outside-international"]
    assert all("forbidden" in line for line in found["outside-internal"])
    includes = {section.name: section.options.get("include", []) for section in reference()["extensions"]}
    for name in ("internal", "local", "national", "international"):
        assert includes[name][0] == "emergency" and includes[name][-1] == "refused"


def test_a_large_office_is_rendered_quickly(tmp_path: Path) -> None:
    tenant = load_tenant(big(tmp_path))
    started = time.process_time()
    render(tenant, IDENTITY)
    assert time.process_time() - started < 3
