"""How long lasts what tests set up: as long as the tests that share a worker for its sake, not as long as the session.

A plugin, not a part of conftest.py: what is set up for a session asks only the hooks of plugins.
"""

from __future__ import annotations

from collections.abc import Generator

import pytest

# What costs nothing while it lasts.
LASTING = ("golden", "duo")
_MADE = pytest.StashKey[list[pytest.FixtureDef[object]]]()


def group_of(item: pytest.Item) -> str:
    """The tests that share a worker, and with it what they set up."""
    return "_".join(sorted({str(mark.args[0]) for mark in item.iter_markers("xdist_group")}))


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[object], request: pytest.FixtureRequest
) -> Generator[None, object, object]:
    """Remember what a group of tests has set up for the whole session."""
    made = yield
    if fixturedef.scope == "session" and fixturedef.baseid and fixturedef.argname not in LASTING:
        request.config.stash.setdefault(_MADE, []).append(fixturedef)
    return made


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """End what a group has set up when its last test is over: a machine that idles until the session's end costs the
    others half a processor.
    """
    if nextitem is None or group_of(nextitem) == group_of(item):
        return
    made = item.config.stash.get(_MADE, [])
    while made:
        made.pop().finish(item._request)  # type: ignore[attr-defined]
