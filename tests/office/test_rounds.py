"""Calls that would go round and round end by themselves; a call for help goes out whatever the file has."""

from __future__ import annotations

from pathlib import Path

import pytest

from centralita.spec.tenant import load_tenant
from tests.office.company import company

pytestmark = [pytest.mark.calls, pytest.mark.xdist_group("rounds")]

# 101 does not want to be disturbed, and nothing is registered at 102: neither rings, and each sends to the other.
FILE = """\
schema: 1
name: round
timezone: Europe/Berlin
country: de
network: {method: static, address: 10.77.3.10/24, gateway: 10.77.3.1}
extensions:
  - {number: 101, name: Ana, do_not_disturb: true, forward: {busy: "extension:102"}}
  - {number: 102, name: Eva, forward: {no_answer: "extension:101"}}
  - {number: 103, name: Uwe}
trunks:
  - {name: main, kind: ip, host: 10.77.3.9, accept_from: [10.77.3.9], did_digits: 3}
inbound:
  - {number: "+4989555112", destination: "extension:103"}
outbound:
  - {name: far, class: international, patterns: ["00."], trunks: [main]}
"""


def test_it_ends_and_a_call_for_help_goes_out(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    path = tmp_path / "round.yaml"
    path.write_text(FILE, encoding="utf-8")
    with company(load_tenant(path), request.config.getoption("--appliance"), tmp_path) as office:
        caller = office.phone("103")
        ended = caller.call("101").wait_ended(timeout_s=20)
        assert ended.code == 486, ended
        assert "goes round and round among forwarded extensions: ended" in office.pbx.log
        for number in ("112", "110"):
            call = caller.call(number)
            call.wait_answered()
            call.hangup()
            assert any(taken.startswith(f"main took {number} ") for taken in office.taken()), office.taken()
