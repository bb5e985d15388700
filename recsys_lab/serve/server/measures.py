"""Measures: what `GET /metrics` says, in the form of Prometheus. No measure has a user, an item or an address."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector, generate_latest

SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)


class Measures:
    """Of one server."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.requests = Counter("recsys_lab_requests", "Answers.", ["path", "status"], registry=registry)
        self.seconds = Histogram(
            "recsys_lab_request_seconds",
            "From the whole request to the whole answer.",
            ["path"],
            buckets=SECONDS,
            registry=registry,
        )
        self.batch = Histogram(
            "recsys_lab_batch_size",
            "Questions that the model answered at once.",
            buckets=(1, 2, 4, 8, 16, 32, 64, 128),
            registry=registry,
        )
        self.events = Counter("recsys_lab_events", "Events that were stored.", registry=registry)
        self.model = Info("recsys_lab_model", "The model that answers.", registry=registry)
        self.reloads = Counter("recsys_lab_reloads", "Models that were asked for anew.", ["outcome"], registry=registry)

    def watch_queue(self, name: str, waiting: Callable[[], int]) -> None:
        gauge = Gauge(f"recsys_lab_{name}_waiting", f"Requests that wait for the {name}.", registry=self.registry)
        gauge.set_function(waiting)

    def text(self) -> bytes:
        return generate_latest(self.registry)
