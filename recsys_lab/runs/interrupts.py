"""How Ctrl-C is handled around a Trainer's work."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


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
