"""How Ctrl-C and SIGTERM are handled around long work."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


@contextmanager
def restored_interrupt() -> Iterator[None]:
    """Ctrl-C is handled as before, which Lightning leaves ignored after an interrupt. Only the main thread may say how
    signals are handled: in another one (a notebook's server, a web application) there is nothing to restore."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


@contextmanager
def stopped_by_sigterm() -> Iterator[None]:
    """SIGTERM (a time limit, a scheduler) stops as Ctrl-C does: what is half written is removed."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class EndSignals:
    """Notes that this process was told to end, and leaves it to others when it does.

    SIGTERM is heeded whoever handled it; SIGUSR1 and SIGUSR2, which clusters send before a job's time is up and which
    would kill a process, where nobody does.
    """

    def __init__(self) -> None:
        self.told = False
        self._before: dict[int, Any] = {}

    def heed(self) -> None:
        self.told = False
        if threading.current_thread() is not threading.main_thread():
            return  # signals are the main thread's
        for name in ("SIGTERM", "SIGUSR1", "SIGUSR2"):
            number = getattr(signal, name, None)  # Windows has no SIGUSR1
            if number is not None and (name == "SIGTERM" or signal.getsignal(number) == signal.SIG_DFL):
                self._before[number] = signal.signal(number, self._note)

    def leave(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.told = True
