"""The matrix of targets and checks, from the reports of a run of pytest."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from centralita.lab.matrix import Cell, Matrix, Outcome, matrix_path, write_matrix
from tests.kept import appliance_of
from tests.results import PROOF

TARGET, ABOUT = "matrix_target", "matrix_about"


def check_name(nodeid: str) -> str:
    """The check in words: the test's name without `test_` and its parameters."""
    return nodeid.rpartition("::")[2].partition("[")[0].removeprefix("test_").replace("_", " ")


def cell_of(report: pytest.TestReport) -> Cell | None:
    """The cell of a test that is a check on a target; one that did not come so far as its call failed in its setup."""
    facts = dict(report.user_properties)
    target = facts.pop(TARGET, None)
    if target is None or (report.when != "call" and report.outcome == "passed"):
        return None
    outcome: Outcome = report.outcome
    kept = {name: value for name, value in facts.items() if not name.startswith((ABOUT, PROOF))}
    return Cell(str(target), check_name(report.nodeid), outcome, round(report.duration, 2), kept)


def show_matrix(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the matrix and keep it."""
    reports = [r for group in terminalreporter.stats.values() for r in group if isinstance(r, pytest.TestReport)]
    cells = [cell for report in reports if (cell := cell_of(report)) is not None]
    if not cells:
        return
    cells.sort(key=lambda cell: cell.target)
    about = {
        name.removeprefix(f"{ABOUT}_"): str(value)
        for report in reports
        for name, value in report.user_properties
        if name.startswith(f"{ABOUT}_")
    }
    matrix = Matrix(about, cells)
    path = matrix_path(appliance_of(config))
    write_matrix(matrix, path)
    text = io.StringIO()
    Console(file=text, width=max(100, terminalreporter._tw.fullwidth)).print(matrix.table())
    terminalreporter.section("targets")
    for name, value in about.items():
        terminalreporter.write_line(f"{name}: {value}")
    terminalreporter.write(text.getvalue())
    terminalreporter.write_line(f"kept in {path}")
