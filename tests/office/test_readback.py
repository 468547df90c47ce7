"""Hostile values through Asterisk's own parser: hundreds in one load, each read back as it was meant."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from centralita.clone.quoting import callerid, marking
from centralita.clone.render import hooks_dir, template_environment
from centralita.spec.tenant import Tenant
from tests.office.conftest import Office, opened
from tests.unit.asterisk_config import unescape_quoted
from tests.unit.test_clone_quoting import HOSTILE

pytestmark = [pytest.mark.calls, pytest.mark.xdist_group("readback")]

PIECES = [
    *(*HOSTILE, *";\\\"<>=[]()#!|'%&{}ñ漢😀a", "=>", "${EXTEN}", "${SHELL(id)}", "$[1]"),
    *("b c", "--", ";--", "--;", "#include", "exten"),
]
NETWORK = {"method": "static", "address": "10.79.0.10/24", "gateway": "10.79.0.1"}
EXTENSIONS, TRUNKS = 400, 40


def a_text(chance: random.Random, longest: int) -> str:
    """A text made of pieces that mean something to a parser."""
    return "".join(chance.choice(PIECES) for _ in range(chance.randint(1, 6)))[:longest].strip()


def made(names: list[str], passwords: list[str]) -> Tenant:
    """A tenant with these names and trunks' passwords. Raises ValidationError where the model refuses one."""
    extensions = tuple({"number": str(1000 + i), "name": name} for i, name in enumerate(names))
    trunks = tuple(
        {"name": f"t{i}", "kind": "ip", "host": "10.79.0.2", "accept_from": (), "user": "u", "password": password}
        for i, password in enumerate(passwords)
    )
    data = {"name": "hostile", "network": NETWORK, "extensions": extensions, "trunks": trunks}
    return Tenant.model_validate(data)


def acceptable(name: str, password: str) -> bool:
    """Whether the model takes both."""
    try:
        made([name], [password])
    except ValidationError:
        return False
    # What quoting.py refuses of a password: Asterisk has no way to write it.
    return not password.startswith(">") and password.isprintable()


def changed(office: Office) -> list[str]:
    """The extensions whose names Asterisk does not read as they were meant."""
    found = []
    for extension in office.tenant.extensions:
        shown = office.pbx.cli(f"pjsip show endpoint {extension.number}")
        (shown_id,) = re.findall(r"^ callerid +: (.*)$", shown, re.M) or ["-"]
        name, _space, number = shown_id.rpartition(" ")
        try:
            # The command line reckons too little room for escapes and may cut the last > off.
            same = (unescape_quoted(name), number.rstrip(">")) == (extension.name, f"<{extension.number}")
        except ValueError:
            same = False
        if not same:
            found.append(extension.number)
    return found


def test_a_planted_escape_is_caught(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a filter that quotes and does not escape, Asterisk reads other names than were meant, and that is seen."""
    careless = marking(lambda value: f'"{value}"')
    monkeypatch.setitem(template_environment(hooks_dir()).filters, "callerid", careless)
    tenant = made(["harmless", "a;b", "harmless too"], [])
    with opened(tenant, request.config.getoption("--appliance"), tmp_path, with_provider=False) as office:
        assert changed(office) == ["1001"]


def test_each_value_is_read_back_as_it_was_meant(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    chance = random.Random(20)
    names: list[str] = []
    passwords: list[str] = []
    while len(names) < EXTENSIONS:
        # Asterisk's command line shows no more than some 90 bytes of a caller ID.
        if acceptable(text := a_text(chance, 40), "x") and len(callerid(text).encode()) < 80:
            names.append(text)
    while len(passwords) < TRUNKS:
        if acceptable("x", text := a_text(chance, 80)):
            passwords.append(text)
    tenant = made(names, passwords)
    with opened(tenant, request.config.getoption("--appliance"), tmp_path, with_provider=False) as office:
        listed = office.pbx.cli("pjsip show endpoints")
        found = set(re.findall(r"^ Endpoint:  ([\w-]+)", listed, re.M))
        assert found == {e.number for e in tenant.extensions} | {trunk.name for trunk in tenant.trunks}
        assert changed(office) == []
        for trunk in tenant.trunks:
            shown = office.pbx.cli(f"pjsip show auth {trunk.name}")
            (password,) = re.findall(r"^ password +: (.*)$", shown, re.M)
            assert password == trunk.password
        # A box with a hostile name stands between its neighbours.
        assert f"{EXTENSIONS} voicemail users configured" in office.pbx.cli("voicemail show users")
