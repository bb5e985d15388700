"""A small run with titles, and a server of it in this process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
from fastapi.testclient import TestClient
from small_data import made_events
from test_cli_runs import fit

from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.serve.server.app import build_app
from recsys_lab.serve.server.event_store import open_store
from recsys_lab.serve.server.limits import Limits
from recsys_lab.serve.server.live_model import LiveModel
from recsys_lab.serve.server.service import Service

HOST = "http://127.0.0.1"


def made_run(folder: Path, first_item: int = 100, name: str = "run") -> Path:
    """Of items from `first_item` on, whose titles are `Film 100`, .."""
    events = made_events(event_types=1).with_columns(pl.col("item_id") + (first_item - 100))
    events = events.with_columns(price=(pl.col("timestamp") % 7) + 0.5)
    items = pl.DataFrame({"item_id": range(first_item, first_item + 30)})
    items = items.with_columns(title="Film " + pl.col("item_id").cast(pl.String))
    data = SequenceDataModule.from_frames(events, items=items, data_dir=folder / f"data-{name}", name="films")
    fields = ("--data.fields", "[price]")
    assert fit(data.processed.path, folder / "runs", "--run.folder", str(folder / name), *fields) == 0
    return folder / name


def service_of(
    run: Path, events: Any, unknown: Any = "skip", keep_days: float | None = None, index: Any = "exact", **limits: Any
) -> Service:
    def load() -> LiveModel:
        return LiveModel.load(run, unknown, index=index)

    return Service(load, lambda: open_store(str(events)), Limits(**limits), keep_days)


@contextmanager
def serving(run: Path, events: Any, token: str | None = None, **settings: Any) -> Iterator[Any]:
    """A client of a server in this process. settings: those of `service_of`."""
    service = service_of(run, events, **settings)
    with TestClient(build_app(service, token), base_url=HOST, raise_server_exceptions=False) as client:
        vars(client)["service"] = service
        yield client
