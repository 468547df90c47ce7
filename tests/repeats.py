"""How often what was repeated failed, from the reports of a run of pytest."""

from __future__ import annotations

import json
from statistics import median
from typing import Any

import pytest

from tests.kept import keep

KIND = "repeat_kind"


def show_repeats(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the rate of each target, and keep it beside the matrix."""
    turns: dict[str, list[tuple[bool, dict[str, Any]]]] = {}
    for group in terminalreporter.stats.values():
        for report in group:
            if isinstance(report, pytest.TestReport) and (report.when == "call" or report.outcome == "failed"):
                facts = dict(report.user_properties)
                if KIND in facts:
                    turns.setdefault(str(facts[KIND]), []).append((report.outcome == "passed", facts))
    if not turns:
        return
    terminalreporter.section("repeats")
    kept = {}
    for kind, found in turns.items():
        passed = sum(ok for ok, _ in found)
        seconds = sorted(float(facts["sip_s"]) for _, facts in found if "sip_s" in facts) or [0.0]
        kept[kind] = {"turns": len(found), "passed": passed, "sip_s": seconds}
        terminalreporter.write_line(
            f"{kind}: {passed} of {len(found)} passed; first SIP answer after {seconds[0]:.1f} to {seconds[-1]:.1f} s, "
            f"median {median(seconds):.1f} s"
        )
    path = keep(config, "repeats.json", json.dumps(kept, indent=1) + "\n")
    terminalreporter.write_line(f"kept in {path}")
