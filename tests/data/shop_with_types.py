"""A small shop whose events have types, sessions and a worth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from recsys_lab.data.datamodule import SequenceDataModule

HOUR = 3600


def made_shop(data_dir: Path) -> Path:
    """Views and purchases in sessions of at most an hour; the column `worth` is one number in five missing."""
    rng, rows = np.random.default_rng(0), []
    for user in range(40):
        time, session = 1_600_000_000 + int(rng.integers(5 * HOUR)), 0
        for step in range(int(rng.integers(4, 16))):
            if step and rng.random() < 0.4:
                time, session = time + 2 * HOUR, session + 1
            time += int(rng.integers(1, 300))
            kind = rng.choice(["view", "view", "cart", "buy"])
            worth = None if rng.random() < 0.2 else float(rng.integers(0, 4))
            rows.append((f"u{user:02d}", int(rng.integers(12)), time, kind, f"s{user}-{session}", worth))
    names = ["user_id", "item_id", "timestamp", "event_type", "session_id", "worth"]
    events = pl.DataFrame(rows, schema=names, orient="row")
    items = pl.DataFrame({"item_id": range(12), "since": [1_600_000_000.0 + 900 * n for n in range(12)]})
    items = items.with_columns(until=pl.when(pl.col("item_id") > 8).then(None).otherwise(pl.col("since") + 9 * HOUR))
    data = SequenceDataModule.from_frames(events, items, name="shop", data_dir=data_dir)
    return data.processed.path


def of(folder: Path, **settings: Any) -> SequenceDataModule:
    return SequenceDataModule(str(folder), **{"max_length": 5, "batch_size": 16, "eval_batch_size": 9, **settings})


def types_of(data: SequenceDataModule, position: Any) -> list[str]:
    names = ["", *data.processed.event_type_names]
    return [names[code] for code in np.asarray(data.processed.event_types)[position]]


def training_targets(data: SequenceDataModule) -> list[int]:
    """Positions of the targets of one epoch."""
    windows, rules = data.train_windows, data.rules
    found = []
    for first, stop in zip(windows.first_target, windows.stop, strict=True):
        found += [p for p in range(first, stop + 1) if rules.is_target is None or rules.is_target[p]]
    return found
