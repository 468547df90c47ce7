"""A deadline for the whole run: what is not finished by then is reported as failed, and pytest still sums up.

``CENTRALITA_TEST_DEADLINE_S`` gives it in seconds from the start of pytest; unset means none.
"""

from __future__ import annotations

import os
import signal
import time
from types import FrameType

import pytest

VARIABLE = "CENTRALITA_TEST_DEADLINE_S"
_started = time.monotonic()


def _left() -> float | None:
    limit = os.environ.get(VARIABLE)
    return None if not limit else float(limit) - (time.monotonic() - _started)


def _ring(_number: int, _frame: FrameType | None) -> None:
    pytest.fail(f"the run's deadline of {os.environ[VARIABLE]} s came", pytrace=False)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Arm the alarm that ends the test which the deadline finds running."""
    left = _left()
    distributing = session.config.getoption("numprocesses", None) and not hasattr(session.config, "workerinput")
    if left is not None and not distributing:
        signal.signal(signal.SIGALRM, _ring)
        signal.setitimer(signal.ITIMER_REAL, max(left, 0.01))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Fail what would begin after the deadline."""
    left = _left()
    if left is not None and left <= 0:
        pytest.fail(f"not run: the run's deadline of {os.environ[VARIABLE]} s is past", pytrace=False)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Disarm."""
    signal.setitimer(signal.ITIMER_REAL, 0)
