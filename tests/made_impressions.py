"""A small shop that shows lists of items and keeps what was clicked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.data.prepare.pipeline import PrepareSettings, prepare
from recsys_lab.data.reading.frames import FrameSource
from recsys_lab.data.split.temporal import GlobalTemporal

START, DAY = 1_600_000_000, 86_400


def made_shop(
    users: int = 40, items: int = 20, lists: int = 6, shown: int = 4, seed: int = 0
) -> dict[str, pl.DataFrame]:
    """events and impressions. A user likes one of two halves of the catalogue, and the first place is clicked more. A
    click is an event at the time of its list; a list at the very start comes before any event of its user; item 99 is
    shown and never clicked."""
    rng = np.random.default_rng(seed)
    events, rows, impression = [], [], 0
    for user in range(users):
        likes = user % 2
        time = START + int(rng.integers(DAY))
        for number in range(lists):
            time += int(rng.integers(1, DAY))
            for _ in range(0 if number == 0 and user % 5 == 0 else 2):  # what it looks at before the list
                events.append((user, 2 * int(rng.integers(items // 2)) + likes, time - int(rng.integers(2, 900))))
            listed = rng.choice(items, size=shown, replace=False)
            listed = np.where(rng.random(shown) < 0.05, 99, listed)
            for place, item in enumerate(listed.tolist()):
                chance = 0.04 if item == 99 else (0.55 if item % 2 == likes else 0.15) * (1.3 if place == 0 else 0.8)
                label = int(item != 99 and rng.random() < chance)
                rows.append(
                    (impression, user, item, time, label, place + 1, float(rng.integers(1, 50)), 1 / (place + 2))
                )
                if label:
                    events.append((user, item, time))
            impression += 1
    columns = ["impression_id", "user_id", "item_id", "timestamp", "label", "position", "price", "chance"]
    return {
        "events": pl.DataFrame(events, schema=["user_id", "item_id", "timestamp"], orient="row"),
        "impressions": pl.DataFrame(rows, schema=columns, orient="row"),
    }


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
