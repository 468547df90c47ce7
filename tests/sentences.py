"""Which sentence of a customer's requirements which test proved, from the reports of a run of pytest."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from tests.kept import keep
from tests.results import PROOF

SENTENCE = f"{PROOF}sentence"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note in each report the sentences that its test was marked with."""
    report = yield
    report.user_properties.extend((SENTENCE, str(mark.args[0])) for mark in item.iter_markers("sentence"))
    return report


def show_sentences(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print each sentence with its result, in the order of the tests, and keep the list."""
    found: dict[str, list[pytest.TestReport]] = {}
    for group in terminalreporter.stats.values():
        for report in group:
            if isinstance(report, pytest.TestReport) and (report.when == "call" or report.outcome != "passed"):
                for name, text in report.user_properties:
                    if name == SENTENCE:
                        found.setdefault(str(text), []).append(report)
    if not found:
        return
    lines = []
    for text in sorted(found, key=lambda text: int(text.partition(".")[0])):
        good = [report.outcome == "passed" for report in found[text]]
        lines.append((text, "passed" if all(good) else "FAILED", f"{sum(good)} of {len(good)} tests"))
    terminalreporter.section("Super Awesome Company, sentence by sentence")
    for text, result, count in lines:
        terminalreporter.write_line(f"{result}  {text} ({count})")
    rows = [f"| {text.replace('|', ' ')} | {result} | {count} |" for text, result, count in lines]
    table = "\n".join(["| sentence | result | by |", "|---|---|---|", *rows, ""])
    path = keep(config, "super-awesome.md", table)
    terminalreporter.write_line(f"kept in {path}")
