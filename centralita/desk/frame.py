"""The frame of every task: progress display, signals, and errors shown once, as words."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from typing import Any, TypeVar

from invoke.tasks import task as invoke_task

from centralita.ground.errors import CentralitaError
from centralita.ground.report import get_reporter, make_reporter, set_reporter
from centralita.ground.signals import guard

F = TypeVar("F", bound=Callable[..., Any])

APPLIANCE = "the appliance's name (pbx-small, or appliance=pbx-small), or the path of its YAML file"
TENANT = "the tenant's YAML file"
PROGRESS_HELP = "how progress is shown: auto (a live display in a terminal, lines in a pipe), rich, plain or json"
MODES = ("auto", "rich", "plain", "json")


def strip_name(value: str, name: str) -> str:
    """``appliance=pbx-small`` as a positional argument means the same as ``pbx-small``."""
    return value.removeprefix(f"{name}=")


def _run(name: str, body: Callable[..., Any], first: str | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: ANN401
    mode = kwargs.pop("progress", "auto")
    if first is not None and isinstance(kwargs.get(first), str):
        kwargs[first] = strip_name(kwargs[first], first)
        if kwargs[first] in ("--help", "-h"):
            # Invoke gives a task's help before its name; after it, the flag is taken for the positional argument.
            os.execv(sys.executable, [sys.executable, "-m", "invoke", "--help", name])
    try:
        if first is not None and str(kwargs.get(first, "")).startswith("-"):
            raise CentralitaError(f"{name} has no flag {kwargs[first]}", hint=f"see `invoke --help {name}`")
        if mode not in MODES:
            raise CentralitaError(f"--progress {mode} is not known", hint=f"one of {', '.join(MODES)}")
        set_reporter(make_reporter(mode))
        with guard():
            return body(*args, **kwargs)
    except CentralitaError as error:
        get_reporter().error("\n".join(error.lines()).removeprefix("error: "))
        sys.exit(1)
    except KeyboardInterrupt:
        get_reporter().error("interrupted; what it had begun is undone")
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(141)


def task(
    first: str | None = None,
    also: tuple[str, ...] = (),
    shown_as: str | None = None,
    **options: Any,  # noqa: ANN401
) -> Callable[[F], Any]:
    """Make a function an Invoke task whose positional arguments are *first* and *also*, inside the frame."""

    def decorate(body: F) -> Any:  # noqa: ANN401
        name = shown_as or body.__name__

        @functools.wraps(body)
        def framed(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            return _run(name, body, first, args, kwargs)

        help_texts = {"progress": PROGRESS_HELP, **options.pop("help", {})}
        return invoke_task(
            framed, positional=[first, *also] if first else [], help=help_texts, auto_shortflags=False, **options
        )

    return decorate
