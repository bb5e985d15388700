"""What is known of each evaluation target before it is ranked: the columns of `ranks.parquet` that slices need."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl


def queries(datamodule: Any, stage: str, position: np.ndarray) -> np.ndarray | None:
    """Where the history ends that each target is predicted from, (N,) positions; None where that is at each itself.

    Args:
        stage: val or test. position: (N,) of the targets' events.
    """
    targets = getattr(datamodule.split_result, stage)
    if targets.query is None:
        return None
    found: np.ndarray = targets.query[np.searchsorted(targets.position, position)]
    return found


def target_facts(datamodule: Any, position: np.ndarray, query: np.ndarray | None = None) -> pl.DataFrame:
    """One row per target, named by the position of its event in the data, (N,) ascending; `query` as `queries` gives
    it:

    user_index: whose it is.
    history_length: events of the user before the query; not cut to the window of a model.
    target_count: training events of the target item; 0 = cold.
    popularity_decile: 1 = the tenth of the trained items with the fewest training events, 10 = with the most; items
        with equal counts share a decile; null = cold.
    gap_seconds: since the last event of that history; null without timestamps.
    is_repeat: the target is in the user's history, whether or not ranking hides it.
    event_type: of the target's event, by name; only where the data has types.
    """
    events, counts = datamodule.events, datamodule.item_counts.numpy()
    item_ids, times, offsets = events.item_ids, events.timestamps, np.asarray(events.offsets)
    user = np.searchsorted(offsets, position, side="right") - 1
    target = item_ids[position].astype(np.int64)
    decile = popularity_deciles(counts)[target]
    query = position if query is None else query
    gap = times[position] - times[query - 1]  # a query always has an event before it
    types = {} if datamodule.processed.event_types is None else {"event_type": event_types(datamodule, position)}
    return pl.DataFrame(
        {
            "user_index": user,
            "history_length": query - offsets[user],
            "target_count": counts[target],
            "popularity_decile": pl.Series(decile).replace(0, None),
            "gap_seconds": pl.Series(gap, dtype=pl.Int64) if datamodule.processed.has_timestamps else None,
            "is_repeat": ~events.first_occurrence[position],
            **types,
        },
        schema_overrides={"gap_seconds": pl.Int64},
    )


def event_types(datamodule: Any, position: np.ndarray) -> pl.Series:
    """(N,) names of the types of events; null where one has none."""
    codes = np.asarray(datamodule.processed.event_types)[position].astype(np.int64)
    names = pl.Series([None, *datamodule.processed.event_type_names], dtype=pl.String)
    return names.gather(codes)


def popularity_deciles(counts: np.ndarray) -> np.ndarray:
    """(V,) training events of each item -> (V,) int64: 1 (least popular) to 10 of the trained items, 0 for the rest."""
    from scipy import stats  # takes long to import, and only a few measures need it

    deciles = np.zeros(len(counts), dtype=np.int64)
    trained = counts > 0
    place = stats.rankdata(counts[trained], method="average")
    deciles[trained] = np.ceil(10 * place / max(1, trained.sum())).astype(np.int64)
    return deciles
