#!/usr/bin/env python3
"""The Open Bandit log of a policy as a data set with impressions: the check of inverse-propensity weights.

    python experiments/click-through/prepare_open_bandit.py FOLDER data random    # or bts; with interactions.parquet

An item is a campaign with the number that it has there. The log names no users: those with the same four features are
one. Each shown item is a list of its own. A click is an event, and so is the arrival of a user, a second before
whatever that user is shown first: without it whoever never clicks would be left out, and the rate of clicks too high.
"""

from __future__ import annotations

import sys
from pathlib import Path

import polars as pl

from recsys_lab.data.prepare.pipeline import PrepareSettings, prepare
from recsys_lab.data.reading.frames import FrameSource

FEATURES = [f"user_feature_{number}" for number in range(4)]


def frames(folder: Path, policy: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Events and impressions."""
    log = pl.read_parquet(folder / "interactions.parquet").filter(pl.col("policy") == policy)
    shown = log.select(
        pl.int_range(pl.len()).alias("impression_id"),
        pl.concat_str(FEATURES, separator=" ").alias("user_id"),
        pl.concat_str("campaign", "item_id", separator="-").alias("item_id"),
        *("timestamp", "label", "position", "campaign", "propensity_score"),
    )
    clicks = shown.filter(pl.col("label") == 1).select("user_id", "item_id", "timestamp")
    arrivals = shown.group_by("user_id").agg(pl.lit("arrival").alias("item_id"), pl.col("timestamp").min() - 1)
    return pl.concat([arrivals, clicks]), shown


def main() -> None:
    folder, data, policy = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    events, shown = frames(folder, policy)
    name = f"open-bandit-{policy}"
    wishes = PrepareSettings(fields=["position=categorical", "propensity_score=numeric"])
    prepare(FrameSource(events, impressions=shown, name=name), wishes, data / name, data / "raw")


if __name__ == "__main__":
    main()
