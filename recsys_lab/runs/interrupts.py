"""How Ctrl-C and SIGTERM are handled around long work."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


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
