"""The matrix of targets and checks: which of the tests passed on which hypervisor, for one golden image.

Kept as JSON beside what was built, and shown as a table.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from rich.table import Table

from centralita.ground import paths
from centralita.ground.errors import CentralitaError

Outcome = Literal["passed", "failed", "skipped"]
MARKS: dict[Outcome, str] = {"passed": "ok", "failed": "FAILED", "skipped": "skipped"}
SCHEMA = 1


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
            table.add_column(target)
        for check in self.checks:
            cells = [self.cell(target, check) for target in self.targets]
            table.add_row(check, *("-" if cell is None else MARKS[cell.outcome] for cell in cells))
        names = dict.fromkeys(name for cell in self.cells for name in cell.facts)
        for name in names:
            values = []
            for target in self.targets:
                found = [cell.facts[name] for cell in self.cells if cell.target == target and name in cell.facts]
                values.append(str(found[0]) if found else "-")
            table.add_row(f"  {name}", *values)
        return table

    def as_json(self) -> str:
        """The matrix as a JSON document."""
        document = {"schema": SCHEMA, "about": dict(self.about), "cells": [asdict(cell) for cell in self.cells]}
        return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def matrix_path(appliance: str) -> Path:
    """Where the matrix of an appliance's last test run is kept."""
    return paths.output_dir() / appliance / "targets.json"


def write_matrix(matrix: Matrix, path: Path) -> None:
    """Write it whole, or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_text(matrix.as_json(), encoding="utf-8")
    part.rename(path)


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
