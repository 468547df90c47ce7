"""Ends a machine in order: asked to shut down first, and only then switched off."""

from __future__ import annotations

import time

from centralita.ground.report import get_reporter
from centralita.hosts.driver import Driver

SHUTDOWN_TIMEOUT_S = 120.0


def stop(driver: Driver, name: str, *, timeout_s: float = SHUTDOWN_TIMEOUT_S) -> None:
    """Shut a machine down; switch it off where that takes longer than `timeout_s`. One that is off stays so."""
    deadline = time.monotonic() + timeout_s
    if driver.state(name) == "running":
        driver.shutdown(name)
    while driver.state(name) == "running" and time.monotonic() < deadline:
        time.sleep(1)
    if driver.state(name) not in ("off", "absent"):
        get_reporter().warn(f"{name} did not shut down within {timeout_s:g} s, and is switched off")
        driver.destroy(name)
