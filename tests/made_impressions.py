"""A small shop that shows lists of items and keeps what was clicked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.data.prepare.pipeline import PrepareSettings, prepare
from recsys_lab.data.reading.frames import FrameSource
from recsys_lab.data.sources.synthetic_clicks import SyntheticClicks
from recsys_lab.data.split.temporal import GlobalTemporal


def made_shop(users: int = 40, items: int = 20) -> dict[str, pl.DataFrame]:
    """events and impressions: lists of four items, six for each user."""
    events, impressions = SyntheticClicks(users, items, lists=6, shown=4).frames()
    return {"events": events, "impressions": impressions}


def typed_shop() -> dict[str, pl.DataFrame]:
    """The same with a type of each event."""
    tables = made_shop()
    kind = pl.when(pl.col("item_id") % 3 == 0).then(pl.lit("buy")).otherwise(pl.lit("view"))
    return tables | {"events": tables["events"].with_columns(event_type=kind)}


def prepared_shop(folder: Path, shop: dict[str, pl.DataFrame] | None = None, name: str = "shop") -> None:
    """Into `folder/<name>`."""
    tables = made_shop() if shop is None else shop
    source = FrameSource(tables["events"], impressions=tables["impressions"], name=name)
    prepare(source, PrepareSettings(fields=["position=categorical"]), folder / name, folder / "raw")


def shop_data(folder: Path, name: str = "shop", **settings: Any) -> SequenceDataModule:
    from recsys_lab.data.impressions import Impressions

    given: dict[str, Any] = {
        "shown": Impressions(),
        "split": GlobalTemporal(quantile=0.7, val_quantile=0.8),
        "max_length": 5,
        "batch_size": 16,
        "eval_batch_size": 7,
        "fields": ["shown.position", "shown.price"],
    }
    return SequenceDataModule(name, data_dir=str(folder), **(given | settings))
