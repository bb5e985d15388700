"""What a long preparation is doing, as log lines."""

from __future__ import annotations

import logging
import time

log = logging.getLogger("recsys_lab")

QUIET_SECONDS = 2.0
"""Nothing is said in the first seconds: a small set is prepared by then."""


class Progress:
    """Call it with what begins now; it also says how long everything before took."""

    def __init__(self) -> None:
        self.started = time.perf_counter()

    def __call__(self, what: str) -> None:
        seconds = time.perf_counter() - self.started
        if seconds >= QUIET_SECONDS:
            log.info("  after %.0f s: %s", seconds, what)
