"""What goes wrong in known ways. A known error is shown as one line with a hint; anything else is a traceback."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


class CentralitaError(Exception):
    """A known error, shown as one line and a hint; the program then ends with status 1.

    `hint` says what to do next; `log` is the file with the whole story.
    """

    def __init__(self, message: str, *, hint: str | None = None, log: Path | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.log = log

    def __str__(self) -> str:
        return self.message

    def lines(self) -> list[str]:
        """The error as it is shown: the message, then the hint and the log where there are any."""
        shown = [f"error: {self.message}"]
        if self.hint:
            shown.append(f"hint: {self.hint}")
        if self.log:
            shown.append(f"log: {self.log}")
        return shown


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong in a file that somebody wrote. `field` is a dotted path, `fix` what would be right."""

    file: str
    line: int | None
    field: str
    message: str
    fix: str

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{place}: {self.field}: {self.message}; fix: {self.fix}"


class SpecError(CentralitaError):
    """All that is wrong in one or more declared files, at once."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = tuple(problems)
        count = len(self.problems)
        heading = f"{count} problem{'' if count == 1 else 's'}"
        super().__init__("\n".join([f"{heading} found:", *(f"  {problem}" for problem in self.problems)]))
