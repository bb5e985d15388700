"""Recommendations of a finished model (the file that `predict` writes) held against the time of the data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from recsys_lab.audit.leakage import future_items
from recsys_lab.audit.log import Log
from recsys_lab.data.prepare.processed import ProcessedDataset
from recsys_lab.words import ITEM_ID, USER_ID, RecsysLabError

QUERY_TIME = "query_time"


def recommendation_facts(data: ProcessedDataset, log: Log, path: Path) -> dict[str, Any]:
    """Number of recommendations and users, and the share of items that did not exist yet, as plain data.

    Args:
        path: Parquet with raw `user_id` and `item_id`, one row per recommended item, and, as `predict` writes it, the
            `query_time` of the recommendation (unix seconds). Without it the time is that of the user's last event.

    Raises:
        RecsysLabError: when the file can't be read, lacks a column, is empty, has times that are no whole seconds, or
            names users or items that this data
            does not have.
    """
    try:
        frame = pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise RecsysLabError(f"the recommendations {path} can't be read as Parquet: {error}") from error
    for name in (USER_ID, ITEM_ID):
        if name not in frame.columns:
            raise RecsysLabError(f"{path} has no column {name!r}; it has: {', '.join(frame.columns)}")
    if not frame.height:
        raise RecsysLabError(f"{path} holds no recommendation")
    user = _rows(frame[USER_ID], data.user_ids, USER_ID, path)
    item = _rows(frame[ITEM_ID], data.item_ids_raw, ITEM_ID, path) + 1
    moments = _moments(frame[QUERY_TIME], path) if QUERY_TIME in frame.columns else None
    return {
        "rows": frame.height,
        "users": len(np.unique(user)),
        "time": "column query_time" if moments is not None else "last event of the user",
        "future_items": None if log.timestamps is None else future_items(log, user, item, moments),
    }


def _moments(times: pl.Series, path: Path) -> np.ndarray:
    """(R,) int64."""
    if not times.dtype.is_integer() or times.has_nulls():
        raise RecsysLabError(
            f"{path}: {QUERY_TIME} must be whole seconds since 1970 in every row; it is {times.dtype} with "
            f"{times.null_count()} nulls"
        )
    return times.cast(pl.Int64).to_numpy()


def _rows(ids: pl.Series, known: pl.Series, name: str, path: Path) -> np.ndarray:
    """(R,) the row of each raw id in the table of the data set."""
    if ids.dtype != known.dtype:
        ids = ids.cast(known.dtype, strict=False)
    table = pl.DataFrame({"id": known}).with_row_index("row")
    rows = pl.DataFrame({"id": ids}).join(table, on="id", how="left", maintain_order="left")["row"]
    missing = rows.is_null()
    if missing.any():
        raise RecsysLabError(
            f"{int(missing.sum())} of {len(rows)} recommendations in {path} have a {name} that this data set does not "
            f"have, e.g. {ids.filter(missing)[0]!r}: they belong to another data set"
        )
    return rows.to_numpy().astype(np.int64)
