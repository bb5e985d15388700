"""What is known of each evaluation target before it is ranked: the columns of `ranks.parquet` that slices need."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from scipy import stats


def target_facts(datamodule: Any, position: np.ndarray) -> pl.DataFrame:
    """One row per target, named by the position of its event in the data, (N,) ascending:

    user_index: whose it is.
    history_length: earlier events of the user; not cut to the window of a model.
    target_count: training events of the target item; 0 = cold.
    popularity_decile: 1 = the tenth of the trained items with the fewest training events, 10 = with the most; items
        with equal counts share a decile; null = cold.
    gap_seconds: since the user's last event; null without timestamps.
    is_repeat: the target is in the user's history, whether or not ranking hides it.
    """
    events, counts = datamodule.events, datamodule.item_counts.numpy()
    item_ids, times, offsets = np.asarray(events.item_ids), np.asarray(events.timestamps), np.asarray(events.offsets)
    user = np.searchsorted(offsets, position, side="right") - 1
    target = item_ids[position].astype(np.int64)
    decile = popularity_deciles(counts)[target]
    gap = times[position] - times[position - 1]  # a target always has an event before it
    return pl.DataFrame(
        {
            "user_index": user,
            "history_length": position - offsets[user],
            "target_count": counts[target],
            "popularity_decile": pl.Series(decile).replace(0, None),
            "gap_seconds": pl.Series(gap, dtype=pl.Int64) if datamodule.processed.has_timestamps else None,
            "is_repeat": ~events.first_occurrence[position],
        },
        schema_overrides={"gap_seconds": pl.Int64},
    )


def popularity_deciles(counts: np.ndarray) -> np.ndarray:
    """(V,) training events of each item -> (V,) int64: 1 (least popular) to 10 of the trained items, 0 for the rest."""
    deciles = np.zeros(len(counts), dtype=np.int64)
    trained = counts > 0
    place = stats.rankdata(counts[trained], method="average")
    deciles[trained] = np.ceil(10 * place / max(1, trained.sum())).astype(np.int64)
    return deciles
