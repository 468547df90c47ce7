"""Days and hours of a schedule: for the checks, the renderer and `tenant.explain`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING

from centralita.ground.errors import Problem
from centralita.spec.source import Node
from centralita.spec.tree import listed, problem, text_at

if TYPE_CHECKING:
    from centralita.spec.office import Schedule

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
LONGEST_HOLIDAY = 92


def dates_of(first: str, last: str | None) -> Iterator[str]:
    """Iterate over the dates from ``first`` to ``last``, written as these are: 2026-12-24, or 12-24 for each year.

    Raises ValueError with what is wrong with them.
    """
    if last is None:
        _day(first)
        yield first
        return
    if len(first) != len(last):
        raise ValueError("one date has a year and the other has none")
    start, end = _day(first), _day(last)
    if len(first) == 5 and end < start:
        end = end.replace(year=end.year + 1)  # over New Year
    if end < start:
        raise ValueError("ends before it starts")
    if (end - start).days >= LONGEST_HOLIDAY:
        raise ValueError(f"has more than {LONGEST_HOLIDAY} days")
    for days in range((end - start).days + 1):
        yield (start + timedelta(days)).isoformat()[-len(first) :]


def _day(text: str) -> date:
    try:
        # A leap year: 02-29 is a date.
        return date.fromisoformat(text if len(text) == 10 else f"2024-{text}")
    except ValueError:
        raise ValueError("there is no such day") from None


def spans(days: str) -> Iterator[tuple[int, int]]:
    """Iterate over the spans of ``mon-wed,fri``: numbers of their first and last day, Monday is 0."""
    for span in days.split(","):
        first, _dash, last = span.partition("-")
        yield _DAYS.index(first), _DAYS.index(last or first)


def state(schedule: Schedule, at: datetime) -> str:
    """Return whether a schedule is open, closed or on holiday (night mode off)."""
    today = at.strftime("%Y-%m-%d")
    for holiday in schedule.holidays:
        if any(today.endswith(day) for day in dates_of(holiday.date, holiday.until)):
            return "holiday"
    moment = at.strftime("%H:%M")
    for item in schedule.hours:
        opens, _dash, closes = item.time.partition("-")
        # GotoIfTime's last minute is inside.
        if not (opens <= moment <= closes if opens <= closes else not closes < moment < opens):
            continue
        for start, end in spans(item.days):
            if start <= at.weekday() <= end if start <= end else not end < at.weekday() < start:
                return "open"
    return "closed"


def dates(root: Node) -> list[Problem]:
    """Return the holidays of a tenant's file that are no dates."""
    problems = []
    for where, schedule in listed(root, "schedules"):
        for place, holiday in listed(schedule, "holidays"):
            first, last = text_at(holiday, "date"), text_at(holiday, "until")
            try:
                if first is not None:
                    list(dates_of(first[1], last[1] if last else None))
            except ValueError as error:
                fix = 'e.g. `{date: "2026-12-24", until: "2027-01-06"}`'
                problems.append(problem(first[0] if first else holiday, f"{where}.{place}.date", str(error), fix))
    return problems
