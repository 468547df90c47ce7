"""Signals that end the program unwind it instead, and wait while something is being undone."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_shielded = 0
_pending: signal.Signals | None = None


class Terminated(KeyboardInterrupt):
    """An ending signal arrived; `status` is the shell's exit status for it (128 + number)."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(number.name)
        self.number = number
        self.status = 128 + number


def _handle(number: int, _frame: FrameType | None) -> None:
    global _pending
    if _shielded:
        _pending = signal.Signals(number)
    else:
        raise Terminated(signal.Signals(number))


@contextmanager
def guard() -> Iterator[None]:
    """While inside, SIGINT, SIGTERM and SIGHUP raise Terminated in the main thread, so that context managers unwind.

    A signal that the caller's shell set to be ignored (nohup, a background job) stays ignored.
    In another thread than the main one this does nothing: only the main thread may set handlers.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in ENDING}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, _handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)


@contextmanager
def shield() -> Iterator[None]:
    """While inside, a signal that `guard` handles waits: it is raised on the way out. For undoing; keep it short."""
    global _shielded, _pending
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _shielded += 1
    try:
        yield
    finally:
        _shielded -= 1
        if not _shielded and _pending is not None:
            number, _pending = _pending, None
            raise Terminated(number)
