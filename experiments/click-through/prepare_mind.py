#!/usr/bin/env python3
"""The MIND news impressions as a data set with impressions.

    python experiments/click-through/prepare_mind.py FOLDER data      # with interactions.parquet, histories.parquet

A click is an event at the time of its list. What a user had clicked before has an order and no times: these events lie
a second apart and end a second before the user's first list.
"""

from __future__ import annotations

import sys
from pathlib import Path

import polars as pl

from recsys_lab.data.prepare.pipeline import PrepareSettings, prepare
from recsys_lab.data.reading.frames import FrameSource


def frames(folder: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Events and impressions."""
    shown = pl.read_parquet(folder / "interactions.parquet")
    clicks = shown.filter(pl.col("label") == 1).select("user_id", "item_id", "timestamp")
    first = shown.group_by("user_id").agg(pl.col("timestamp").min().alias("first"))
    lists = pl.read_parquet(folder / "histories.parquet").sort("timestamp").unique("user_id", keep="first")
    history = lists.select("user_id", pl.col("history").alias("item_id")).explode("item_id").drop_nulls("item_id")
    back = pl.len().over("user_id") - pl.int_range(pl.len()).over("user_id")
    history = history.with_columns(back=back).join(first, on="user_id")
    before = history.select("user_id", "item_id", timestamp=pl.col("first") - pl.col("back"))
    return pl.concat([before, clicks]), shown


def main() -> None:
    folder, data = map(Path, sys.argv[1:])
    events, shown = frames(folder)
    source = FrameSource(events, impressions=shown, name="mind-clicks")
    prepare(source, PrepareSettings(fields=["position=categorical"]), data / "mind-clicks", data / "raw")


if __name__ == "__main__":
    main()
