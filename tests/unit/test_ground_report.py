"""What people and programs see of a run."""

from __future__ import annotations

import io
import json
import threading
from pathlib import Path

import pytest
from rich.console import Console

from centralita.ground.errors import CentralitaError, Problem, SpecError
from centralita.ground.report import JsonReporter, PlainReporter, Reporter, RichReporter, make_reporter

pytestmark = pytest.mark.unit


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def tell(reporter: Reporter) -> None:
    """A small run, with all kinds of things to tell."""
    with reporter.step("OS tree", total=2) as step:
        step.advance()
        with reporter.step("packages") as inner:
            inner.cached()
        step.note("asterisk [22]")
    reporter.info("hello [22]")
    reporter.warn("the Release file is old")
    with pytest.raises(RuntimeError), reporter.step("disk"):
        raise RuntimeError
    reporter.summary("Golden image", {"size": "120 MB", "packages": "214"})


def test_a_pipe_gets_plain_lines() -> None:
    stream = io.StringIO()
    reporter = make_reporter("auto", stream)
    assert isinstance(reporter, PlainReporter)
    tell(reporter)
    assert stream.getvalue().splitlines() == [
        "==> OS tree",
        "  ==> packages",
        "      done packages 0.0 s (cached)",
        "    done OS tree 0.0 s",
        "hello [22]",
        "warning: the Release file is old",
        "==> disk",
        "    FAILED disk 0.0 s",
        "Golden image",
        "    size      120 MB",
        "    packages  214",
    ]


def test_progress_in_a_pipe_comes_rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("centralita.ground.report.time.monotonic", lambda: now)
    stream = io.StringIO()
    with PlainReporter(stream).step("download", total=100) as step:
        for _ in range(100):
            now += 0.25
            step.advance()
    progress = stream.getvalue().splitlines()[1:-1]
    assert progress == ["    40 of 100 (10 s)", "    80 of 100 (20 s)"]


def test_json_lines_are_whole_events() -> None:
    stream = io.StringIO()
    tell(JsonReporter(stream))
    events = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [event["event"] for event in events] == [
        *("step-start", "step-progress", "step-start", "step-end", "step-progress", "step-end"),
        *("info", "warn", "step-start", "step-end", "summary"),
    ]
    assert events[3]["cached"] is True
    assert events[3]["id"] == events[2]["id"] != events[0]["id"]
    assert events[5]["ok"] is True
    assert events[9]["ok"] is False
    assert events[-1]["rows"] == {"size": "120 MB", "packages": "214"}


def test_a_terminal_gets_a_live_display(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    assert isinstance(make_reporter("auto", Terminal()), RichReporter)
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(make_reporter("auto", Terminal()), PlainReporter)


def test_the_live_display_tells_all_and_ends() -> None:
    stream = Terminal()
    reporter = RichReporter(Console(file=stream, force_terminal=True, width=100, highlight=False))
    tell(reporter)
    text = stream.getvalue()
    for expected in ("OS tree", "(cached)", "warning:", "hello [22]", "120 MB", "✗"):
        assert expected in text
    assert reporter._live is None


@pytest.mark.parametrize("reporter", [Reporter(), PlainReporter(io.StringIO()), JsonReporter(io.StringIO())])
def test_stages_and_warnings_are_remembered(reporter: Reporter) -> None:
    tell(reporter)
    assert [(stage.title, stage.cached) for stage in reporter.stages] == [
        ("OS tree", False),
        ("packages", True),
        ("disk", False),
    ]
    assert all(seconds >= 0 for _, seconds, _ in reporter.stages)
    assert reporter.warnings == ["the Release file is old"]


def test_threads_do_not_mix_their_lines() -> None:
    stream = io.StringIO()
    reporter = PlainReporter(stream)

    def work(number: int) -> None:
        for _ in range(50):
            with reporter.step(f"clone {number}"):
                reporter.info("x" * 80)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = stream.getvalue().splitlines()
    assert len(lines) == 4 * 50 * 3
    assert all(line.startswith(("==> clone", "    done clone")) or line == "x" * 80 for line in lines)
    assert len(reporter.stages) == 200


def test_a_reader_that_went_away_does_not_fail_the_run() -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    tell(PlainReporter(Gone()))


def test_errors_say_what_to_do_next() -> None:
    error = CentralitaError("no kernel", hint="install one", log=Path("/var/log/x"))
    assert error.lines() == ["error: no kernel", "hint: install one", "log: /var/log/x"]
    problem = Problem("duo.yaml", 7, "extensions.0.number", "'1o1' is not a number", "digits only, as in 101")
    assert str(problem) == "duo.yaml:7: extensions.0.number: '1o1' is not a number; fix: digits only, as in 101"
    assert "2 problems found" in str(SpecError([problem, problem]))
    assert SpecError(iter([problem])).problems == (problem,)
