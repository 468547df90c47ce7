"""The web phone of examples/two-countries.yaml: a secure WebSocket, ICE, DTLS-SRTP, and sound both ways."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from centralita.ground.paths import repo_root
from centralita.ground.run import environment, run
from centralita.spec.tenant import load_tenant
from tests.office.company import company

pytestmark = [pytest.mark.calls, pytest.mark.xdist_group("web-phone")]


def test_a_web_phone_registers_and_hears_itself_encrypted(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    tenant = load_tenant(repo_root() / "examples" / "two-countries.yaml")
    with company(tenant, request.config.getoption("--appliance"), tmp_path) as office:
        argv = [sys.executable, "-m", "centralita.lab.web_phone", str(office.pbx.address), "5203", "*43"]
        done = run(
            office.pbx.network.argv(argv),
            stdin=office.secrets["5203"].encode() + b"\n",
            env=environment({"PYTHONPATH": str(repo_root())}),
            timeout_s=120,
            check=False,
        )
        assert done.stdout, done.stderr
        told = json.loads(done.stdout.splitlines()[-1])
        assert told["registered"] == "SIP/2.0 200 OK" and told["answered"] == "SIP/2.0 200 OK", told
        assert told["profile"] == "UDP/TLS/RTP/SAVPF" and told["state"] == "connected", told
        assert told["tone_s"] > 1.5, told
        bad = [line for line in office.pbx.log.splitlines() if re.search(r"\] (WARNING|ERROR)\[", line)]
        assert [line for line in bad if "DTLS" in line or "SRTP" in line] == []
