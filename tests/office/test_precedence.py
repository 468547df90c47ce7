"""Which of several patterns Asterisk takes is what `tenant.explain` says: hundreds of numbers through both."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from centralita.ground.paths import repo_root
from centralita.spec.patterns import parse
from centralita.spec.tenant import load_tenant
from tests.office.conftest import opened
from tests.office.test_super_awesome import until

pytestmark = [pytest.mark.calls, pytest.mark.xdist_group("precedence")]

PLACES = ["X", "Z", "N", "9", "7", "1", "0", "[79]", "[1-7]", "[09]"]
CONTEXTS = 120


def test_the_most_specific_pattern_is_taken(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    chance = random.Random(5)
    dialplan, wanted = "", {}
    for context in range(CONTEXTS):
        texts = {
            "".join(chance.choice(PLACES) for _ in range(chance.randint(1, 5))) + chance.choice(["", "", "."])
            for _ in range(6)
        }
        lines = [f"exten => _{text},1,Log(NOTICE,took {context} ${{EXTEN}} {text} .)" for text in sorted(texts)]
        chance.shuffle(lines)
        dialplan += "\n".join([f"[t{context}]", *lines, ""])
        ranked = sorted(map(parse, texts), key=lambda pattern: pattern.rank)
        for _ in range(6):
            number = "".join(chance.choice("0179") for _ in range(chance.randint(1, 6)))
            taken = next((pattern.text for pattern in ranked if pattern.matches(number)), None)
            if taken is not None:
                wanted[str(context), number] = taken
    assert len(wanted) > 150
    tenant = load_tenant(repo_root() / "tests" / "data" / "duo.yaml")
    with opened(tenant, request.config.getoption("--appliance"), tmp_path, with_provider=False) as office:
        with (office.pbx.root / "etc/asterisk/extensions.conf").open("a", encoding="utf-8") as file:
            file.write(dialplan)
        office.pbx.cli("dialplan reload")
        for index, (name, number) in enumerate(wanted):
            made = office.pbx.root / f"var/spool/asterisk/tmp/{index}.call"
            made.write_text(f"Channel: Local/{number}@t{name}\nApplication: Wait\nData: 1\n")
            made.chmod(0o666)
            made.rename(office.pbx.root / f"var/spool/asterisk/outgoing/{index}.call")

        def found() -> dict[tuple[str, str], str]:
            return {(c, n): text for c, n, text in re.findall(r"took (\d+) (\d+) (\S+) \.$", office.pbx.log, re.M)}

        until(lambda: len(found()) == len(wanted), "all calls", 60)
        assert found() == wanted
