"""The matrix of targets and checks: which of the tests passed on which hypervisor, for one golden image.

Kept as JSON, as a page and as a picture beside what was built, and shown as a table.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from html import escape
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table

from centralita.ground import paths
from centralita.ground.errors import CentralitaError

Outcome = Literal["passed", "failed", "skipped"]
MARKS: dict[Outcome, str] = {"passed": "ok", "failed": "FAILED", "skipped": "skipped"}
SCHEMA = 1
#: The fact that stands at the head of a target's column.
ACCELERATOR = "accelerator"
STYLE = (
    "body{font:15px sans-serif;margin:2em}table{border-collapse:collapse;margin:1em 0}"
    "th{text-align:left;font-weight:400}"
    "td,th{padding:.2em .7em;border-bottom:1px solid #ddd}.passed{background:#dff0d8}.failed{background:#f2b8b5}"
    ".skipped{background:#fff3cd}.fact{color:#555}"
)


@dataclass(frozen=True)
class Cell:
    """One check on one target. `facts` are what was measured, with units in their names."""

    target: str
    check: str
    outcome: Outcome
    seconds: float
    facts: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Matrix:
    """All cells of a run, and what is true of all of them (the golden digest, QEMU's and Xen's versions)."""

    about: Mapping[str, str]
    cells: Sequence[Cell]

    @property
    def targets(self) -> list[str]:
        """The rows, in the order in which they ran."""
        return list(dict.fromkeys(cell.target for cell in self.cells))

    @property
    def checks(self) -> list[str]:
        """The columns."""
        return list(dict.fromkeys(cell.check for cell in self.cells))

    def cell(self, target: str, check: str) -> Cell | None:
        """The result of a check, None where it was not made. Of several, one that did not pass counts."""
        found = [cell for cell in self.cells if (cell.target, cell.check) == (target, check)]
        return next((cell for cell in found if cell.outcome != "passed"), found[0] if found else None)

    def table(self) -> Table:
        """The matrix for a terminal: a row a check, a column a target, and below what was measured."""
        table = Table(box=None, pad_edge=False)
        table.add_column("check")
        for target in self.targets:
            table.add_column(f"{target}\n{self.fact(target, ACCELERATOR)}")
        for check in self.checks:
            cells = [self.cell(target, check) for target in self.targets]
            table.add_row(check, *("-" if cell is None else MARKS[cell.outcome] for cell in cells))
        names = dict.fromkeys(name for cell in self.cells for name in cell.facts)
        for name in names:
            values = [self.fact(target, name) for target in self.targets]
            table.add_row(f"  {name}", *values)
        return table

    def as_svg(self) -> str:
        """The same table as a picture."""
        console = Console(record=True, file=io.StringIO(), width=46 + 16 * len(self.targets))
        for name, value in self.about.items():
            console.print(f"{name}: {value}", highlight=False)
        console.print(self.table())
        # Without the fonts that a reader's browser would have to fetch.
        drawn = console.export_svg(title="One disk on each target", unique_id="targets")
        return re.sub(r"@font-face \{.*?\}\s*|<!--.*?-->\s*", "", drawn, flags=re.DOTALL)

    def as_html(self) -> str:
        """The matrix as a page of its own, which needs nothing else: a row a check, then what was measured."""
        rows = []
        for check in self.checks:
            cells = [self.cell(target, check) for target in self.targets]
            marks = [("none", "-") if cell is None else (cell.outcome, MARKS[cell.outcome]) for cell in cells]
            rows.append((check, "", marks))
        for name in dict.fromkeys(name for cell in self.cells for name in cell.facts):
            rows.append((name, "fact", [("fact", self.fact(target, name)) for target in self.targets]))
        about = "".join(
            f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in self.about.items()
        )
        head = "".join(
            f"<th>{escape(target)}<br>{escape(self.fact(target, ACCELERATOR))}</th>" for target in self.targets
        )
        body = "\n".join(
            f'<tr class="{kind}"><th>{escape(title)}</th>'
            + "".join(f'<td class="{mark}">{escape(text)}</td>' for mark, text in marks)
            + "</tr>"
            for title, kind, marks in rows
        )
        return (
            f'<!DOCTYPE html>\n<html lang="en"><meta charset="utf-8"><title>Targets</title>\n<style>{STYLE}</style>\n'
            f"<h1>One disk on each target</h1>\n<table>{about}</table>\n"
            f"<table><tr><th></th>{head}</tr>\n{body}</table>\n</html>\n"
        )

    def fact(self, target: str, name: str) -> str:
        """What was measured on a target, a dash where nothing was."""
        found = [cell.facts[name] for cell in self.cells if cell.target == target and name in cell.facts]
        return str(found[0]) if found else "-"

    def as_json(self) -> str:
        """The matrix as a JSON document."""
        document = {"schema": SCHEMA, "about": dict(self.about), "cells": [asdict(cell) for cell in self.cells]}
        return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def matrix_path(appliance: str) -> Path:
    """Where the matrix of an appliance's last test run is kept."""
    return paths.output_dir() / appliance / "targets.json"


def write_matrix(matrix: Matrix, path: Path) -> None:
    """Write it, and the page and the picture of the same name beside it: each whole, or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    forms = {".html": matrix.as_html(), ".svg": matrix.as_svg(), ".json": matrix.as_json()}
    for suffix, text in forms.items():
        target = path.with_suffix(suffix)
        part = target.with_name(f".{target.name}.part")
        part.write_text(text, encoding="utf-8")
        part.rename(target)


def load_matrix(path: Path) -> Matrix:
    """Read a matrix. Raises CentralitaError where there is none, or it is not one."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        cells = [Cell(**cell) for cell in document["cells"]]
    except FileNotFoundError as error:
        raise CentralitaError(f"no matrix: {path} is not there", hint="invoke test --tier targets") from error
    except (ValueError, KeyError, TypeError) as error:
        raise CentralitaError(f"{path} is not a matrix of targets", hint="run the tests again") from error
    return Matrix(document["about"], cells)
