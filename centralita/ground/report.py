"""What people see: steps with their times, as a live display in a terminal, lines in a pipe, or JSON lines."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, Literal, NamedTuple

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table
from rich.text import Text

Mode = Literal["auto", "rich", "plain", "json"]

#: In a pipe, a long step says how far it is at most this often.
PROGRESS_EVERY_S = 10.0


class Stage(NamedTuple):
    """A finished step."""

    title: str
    seconds: float
    cached: bool


@dataclass(eq=False)
class Step:
    """A step under way. `total` None: nobody knows how much there is to do."""

    reporter: Reporter = field(repr=False)
    id: int
    title: str
    depth: int
    total: int | None
    started: float
    done: int = 0
    is_cached: bool = False
    said: float = 0.0

    @property
    def seconds(self) -> float:
        """How long it has taken so far."""
        return time.monotonic() - self.started

    def advance(self, n: int = 1) -> None:
        """So much more of `total` is done."""
        self.done += n
        self.reporter._progress(self, None)

    def note(self, text: str) -> None:
        """What it is at just now, in a few words."""
        self.reporter._progress(self, text)

    def cached(self) -> None:
        """Nothing had to be done: the result was there."""
        self.is_cached = True


class Reporter:
    """Tells what happens. This one tells nothing but remembers stages and warnings; the others also speak."""

    def __init__(self) -> None:
        #: Finished steps in the order in which they began; a step within a step has its own line.
        self._stages: dict[int, Stage] = {}
        #: All warnings so far, for whoever writes the record.
        self.warnings: list[str] = []
        self._lock = threading.RLock()
        self._last_id = 0
        self._local = threading.local()

    @property
    def stages(self) -> list[Stage]:
        """The finished steps, in the order in which they began."""
        with self._lock:
            return [self._stages[key] for key in sorted(self._stages)]

    @contextmanager
    def step(self, title: str, *, total: int | None = None) -> Iterator[Step]:
        """A step: announced, timed, and reported as done or failed. May stand within another one."""
        depth = getattr(self._local, "depth", 0)
        with self._lock:
            self._last_id += 1
            step = Step(self, self._last_id, title, depth, total, time.monotonic())
            step.said = step.started
            self._start(step)
        self._local.depth = depth + 1
        ok = False
        try:
            yield step
            ok = True
        finally:
            self._local.depth = depth
            with self._lock:
                self._stages[step.id] = Stage(title, step.seconds, step.is_cached)
                self._end(step, ok)

    def info(self, text: str) -> None:
        """Something worth a line."""
        with self._lock:
            self._say("info", text)

    def warn(self, text: str) -> None:
        """Something that the user should know although work goes on; also kept in `warnings`."""
        with self._lock:
            self.warnings.append(text)
            self._say("warn", text)

    def error(self, text: str) -> None:
        """What the program ends with."""
        with self._lock:
            self._say("error", text)

    def summary(self, title: str, rows: Mapping[str, str]) -> None:
        """The closing table."""
        with self._lock:
            self._table(title, rows)

    def _start(self, step: Step) -> None: ...

    def _progress(self, step: Step, note: str | None) -> None: ...

    def _end(self, step: Step, ok: bool) -> None: ...

    def _say(self, level: str, text: str) -> None: ...

    def _table(self, title: str, rows: Mapping[str, str]) -> None: ...


class _Writing(Reporter):
    """A reporter that writes whole lines to a stream."""

    def __init__(self, stream: IO[str] | None = None) -> None:
        super().__init__()
        self._stream = stream

    def _line(self, text: str, level: str = "info") -> None:
        # Looked up late: pytest and others exchange sys.stdout. What a program ends with is seen where its output goes
        # into a file.
        stream = self._stream or (sys.stderr if level == "error" else sys.stdout)
        # A reader that has gone away (| head) must not fail the build.
        with contextlib.suppress(BrokenPipeError):
            stream.write(text + "\n")
            stream.flush()


class PlainReporter(_Writing):
    """One line where a step begins and one where it ends, and every ten seconds how far it is."""

    def _start(self, step: Step) -> None:
        self._line("  " * step.depth + f"==> {step.title}")

    def _progress(self, step: Step, note: str | None) -> None:
        with self._lock:
            now = time.monotonic()
            if now - step.said < PROGRESS_EVERY_S:
                return
            step.said = now
            told = [f"{step.done} of {step.total}" if step.total else "", note or ""]
            self._line("  " * step.depth + f"    {' '.join(filter(None, told))} ({step.seconds:.0f} s)")

    def _end(self, step: Step, ok: bool) -> None:
        word = "done" if ok else "FAILED"
        cached = " (cached)" if step.is_cached else ""
        self._line("  " * step.depth + f"    {word} {step.title} {step.seconds:.1f} s{cached}")

    def _say(self, level: str, text: str) -> None:
        self._line(text if level == "info" else f"{'warning' if level == 'warn' else level}: {text}", level)

    def _table(self, title: str, rows: Mapping[str, str]) -> None:
        self._line(title)
        width = max(map(len, rows), default=0)
        for name, value in rows.items():
            self._line(f"    {name:<{width}}  {value}")


class JsonReporter(_Writing):
    """One JSON object a line: step-start, step-progress, step-end, info, warn, error, summary."""

    def _event(self, event: str, **fields: object) -> None:
        self._line(json.dumps({"event": event, **fields}, ensure_ascii=False))

    def _start(self, step: Step) -> None:
        self._event("step-start", id=step.id, title=step.title, depth=step.depth, total=step.total)

    def _progress(self, step: Step, note: str | None) -> None:
        with self._lock:
            self._event("step-progress", id=step.id, title=step.title, done=step.done, total=step.total, note=note)

    def _end(self, step: Step, ok: bool) -> None:
        seconds = round(step.seconds, 3)
        self._event("step-end", id=step.id, title=step.title, ok=ok, cached=step.is_cached, seconds=seconds)

    def _say(self, level: str, text: str) -> None:
        self._event(level, text=text)

    def _table(self, title: str, rows: Mapping[str, str]) -> None:
        self._event("summary", title=title, rows=dict(rows))


class _CountColumn(ProgressColumn):
    """`3/10`, and nothing where the total is unknown."""

    def __init__(self) -> None:
        super().__init__()
        self._count = MofNCompleteColumn()

    def render(self, task: Task) -> RenderableType:
        return Text("") if task.total is None else self._count.render(task)


class RichReporter(Reporter):
    """A live display: a spinner, a bar and the elapsed time for each step under way, a line for each done."""

    def __init__(self, console: Console | None = None) -> None:
        super().__init__()
        self._console = console or Console(highlight=False)
        self._live: Progress | None = None
        self._tasks: dict[int, TaskID] = {}

    def _start(self, step: Step) -> None:
        if self._live is None:
            self._live = Progress(
                SpinnerColumn(),
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                _CountColumn(),
                TimeElapsedColumn(),
                TextColumn("[dim]{task.fields[note]}"),
                console=self._console,
                transient=True,
            )
            self._live.start()
        title = "  " * step.depth + escape(step.title)
        self._tasks[step.id] = self._live.add_task(title, total=step.total, note="")

    def _progress(self, step: Step, note: str | None) -> None:
        with self._lock:
            task = self._tasks.get(step.id)
            if self._live is None or task is None:
                return
            if note is None:
                self._live.update(task, completed=step.done)
            else:
                self._live.update(task, completed=step.done, note=escape(note))

    def _end(self, step: Step, ok: bool) -> None:
        task = self._tasks.pop(step.id, None)
        if self._live is not None and task is not None:
            self._live.remove_task(task)
        mark = "[red]✗[/]" if not ok else "[dim]•[/]" if step.is_cached else "[green]✓[/]"
        cached = " (cached)" if step.is_cached else ""
        self._console.print(f"{'  ' * step.depth}{mark} {escape(step.title)} [dim]{step.seconds:.1f} s{cached}[/]")
        if self._live is not None and not self._tasks:
            # Stopped between steps, so that whoever needs the terminal (a console) has it to himself.
            self._live.stop()
            self._live = None

    def _say(self, level: str, text: str) -> None:
        style = {"warn": "[yellow]warning:[/] ", "error": "[red]error:[/] "}.get(level, "")
        console = self._console
        if level == "error" and console.file is sys.stdout:
            console = Console(stderr=True, highlight=False)
        console.print(style + escape(text))

    def _table(self, title: str, rows: Mapping[str, str]) -> None:
        table = Table(title=escape(title), title_justify="left", show_header=False, box=None, title_style="bold")
        for name, value in rows.items():
            table.add_row(escape(name), escape(value))
        self._console.print(table)


def make_reporter(mode: Mode = "auto", stream: IO[str] | None = None) -> Reporter:
    """The reporter for a mode; `auto` is `rich` in a terminal and `plain` elsewhere.

    Writes to standard output, and errors (but not those among JSON lines) to standard error.
    """
    if mode == "auto":
        target = stream or sys.stdout
        mode = "rich" if target.isatty() and os.environ.get("TERM", "dumb") != "dumb" else "plain"
    if mode == "rich":
        return RichReporter(Console(file=stream, highlight=False))
    return JsonReporter(stream) if mode == "json" else PlainReporter(stream)


_reporter: Reporter | None = None


def get_reporter() -> Reporter:
    """The program's reporter; made by `make_reporter("auto")` where nobody has set one."""
    global _reporter
    if _reporter is None:
        _reporter = make_reporter()
    return _reporter


def set_reporter(reporter: Reporter) -> None:
    """Makes this the program's reporter."""
    global _reporter
    _reporter = reporter
