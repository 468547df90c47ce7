"""A dial plan that calls which are up can go on in: the new one, and under it the steps of the one they began in.

Asterisk knows of a call only where it is: context, extension, priority. Where a reload has moved the steps of an
extension, a call that is up goes on at the wrong one: out of a queue's greeting to the hang-up behind the queue, say.
So what is loaded while calls may be up has both plans, at priorities that never meet: the old steps stay where they
are, the new ones stand above them, and whoever enters an extension, at priority 1, is sent to the new ones. What is in
the machine's file is the new plan alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

#: The distance between two plans; no extension has as many steps.
STRIDE = 10000

_SECTION = re.compile(r"\[([^\]]+)\](\([^)]*\))?\s*(;.*)?$")
_EXTEN = re.compile(r"exten\s*=>?\s*([^,]+),\s*(hint|\d+|n)(?:\(([\w-]+)\))?\s*,(.*)$")
_SAME = re.compile(r"same\s*=>?\s*(\d+|n)(?:\(([\w-]+)\))?\s*,(.*)$")
_OTHER = re.compile(r"(include|ignorepat|switch)\s*=>?\s*\S")
#: Sections that hold settings, not steps.
_SETTINGS = ("general", "globals")


class Unknown(ValueError):
    """A line that is none of a dial plan's that we write."""


@dataclass(frozen=True)
class Step:
    """One priority of an extension."""

    priority: int
    label: str
    application: str


@dataclass
class Context:
    """A context: its steps by extension, in order; `lines` are its other ones, `hints` among them."""

    name: str
    lines: list[str] = field(default_factory=list)
    hints: list[str] = field(default_factory=list)
    steps: dict[str, list[Step]] = field(default_factory=dict)


def parse(text: str) -> list[Context]:
    """Return the contexts of an extensions.conf. Raises Unknown for what cannot be taken apart."""
    found: dict[str, Context] = {}
    here: Context | None = None
    exten = ""
    for raw in text.splitlines():
        line = raw.strip()
        if not line or line.startswith(";"):
            continue
        if section := _SECTION.match(line):
            if section[2]:
                raise Unknown(line)
            here = found.setdefault(section[1], Context(section[1]))
            exten = ""
        elif here is None:
            raise Unknown(line)
        elif here.name in _SETTINGS or _OTHER.match(line):
            here.lines.append(line)
        elif match := _EXTEN.match(line):
            exten = match[1].strip()
            if match[2] == "hint":
                here.hints.append(line)
            else:
                _add(here, exten, match[2], match[3], match[4])
        elif (match := _SAME.match(line)) and exten:
            _add(here, exten, match[1], match[2], match[3])
        else:
            raise Unknown(line)
    return list(found.values())


def _add(context: Context, exten: str, priority: str, label: str | None, application: str) -> None:
    steps = context.steps.setdefault(exten, [])
    number = int(priority) if priority != "n" else (steps[-1].priority + 1 if steps else 0)
    if number < 1:
        raise Unknown(f"{exten},{priority}")
    steps.append(Step(number, label or "", application.strip()))


def both(old: str, new: str) -> str:
    """Return a dial plan that is `new` for who enters it, and `old` for who is in it. Raises Unknown."""
    before = {context.name: context for context in parse(old)}
    after = {context.name: context for context in parse(new)}
    highest = max(
        (step.priority for context in before.values() for steps in context.steps.values() for step in steps), default=0
    )
    base = (highest // STRIDE + 1) * STRIDE
    lines: list[str] = []
    for name in [*after, *(name for name in before if name not in after)]:
        lines += ["", f"[{name}]"]
        if name in _SETTINGS:
            lines += after[name].lines if name in after else []
            continue
        was, will = before.get(name, Context(name)), after.get(name, Context(name))
        lines += [*_kept_lines(was, will, before, after), *will.lines, *will.hints]
        for exten in [*will.steps, *(exten for exten in was.steps if exten not in will.steps)]:
            lines += _merged(exten, was.steps.get(exten, []), will.steps.get(exten, []), base)
    return "\n".join(lines[1:]) + "\n"


def _kept_lines(was: Context, will: Context, before: dict[str, Context], after: dict[str, Context]) -> list[str]:
    """Return the includes by which calls that are up find their steps, and by which nobody else finds any.

    A context that is gone can be entered by nobody, and keeps all. In one that is still there, none may lead to steps
    that can be entered: who may dial what is as the new plan says, from the first moment on.
    """
    return [
        line
        for line in was.lines
        if line not in will.lines and (was.name not in after or _leads_nowhere(line, before, after, set()))
    ]


def _leads_nowhere(line: str, before: dict[str, Context], after: dict[str, Context], seen: set[str]) -> bool:
    if not (match := re.fullmatch(r"include\s*=>?\s*([\w.-]+)", line)):
        return False
    name = match[1]
    if name in seen:
        return True
    seen.add(name)
    return (
        name in before
        and name not in after
        and all(_leads_nowhere(other, before, after, seen) for other in before[name].lines)
    )


def _merged(exten: str, old: list[Step], new: list[Step], base: int) -> list[str]:
    labels = {step.label for step in new}
    lines = []
    if new:
        lines.append(f"exten => {exten},1,Goto({base + new[0].priority})")
    # A call that looks for a label finds the new step of that name.
    kept = [Step(s.priority, "" if s.label in labels else s.label, s.application) for s in old if s.priority > 1]
    for step in [*kept, *(Step(base + step.priority, step.label, step.application) for step in new)]:
        label = f"({step.label})" if step.label else ""
        lines.append(f"exten => {exten},{step.priority}{label},{step.application}")
    return lines
