"""Limits: what one server takes on at most."""

from __future__ import annotations

from dataclasses import dataclass

from recsys_lab.arguments import Count, Natural, Positive, check_fields


@dataclass(frozen=True)
class Limits:
    """What a server takes on at most.

    Args:
        max_queue: requests that wait for the model, and as many that wait for the events; further ones get status 429.
        max_batch: requests that are answered at once. A batch is what came since the one before began: nobody waits
            for it to fill.
        batch_ms: milliseconds between the beginnings of a batch of several requests and of the next. More needs less of
            the processor for each request, which waits longer.
        timeout: seconds until a request that has no answer gets status 503, and a body that has not arrived 408.
        max_body_kb: of a request; a larger one gets status 413.
        max_connections: open at once; further ones get status 503.
        stop_seconds: that requests in flight have at the end.
    """

    max_queue: Count = 256
    max_batch: Count = 64
    batch_ms: Natural = 20
    timeout: Positive = 5.0
    max_body_kb: Count = 1024
    max_connections: Count = 1024
    stop_seconds: Natural = 10

    def __post_init__(self) -> None:
        check_fields(self)
