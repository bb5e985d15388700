"""ranks.parquet: what it must hold, and which targets it is of."""

from __future__ import annotations

from hashlib import sha256

import numpy as np
import polars as pl

from recsys_lab.words import number_of

TARGET_KEY = ("user_id", "target_item_id", "query_time")


def hash_targets(ranks: pl.DataFrame) -> str:
    """Of the ids and times of the targets in `ranks`, as bytes."""
    digest = sha256()
    for name in TARGET_KEY:
        column = ranks[name]
        if column.dtype.is_integer():
            parts = [column.is_null().to_numpy(), column.fill_null(0).cast(pl.Int64).to_numpy().astype("<i8")]
        else:
            text = column.cast(pl.String)
            parts = [text.str.len_bytes().fill_null(-1).cast(pl.Int64).to_numpy().astype("<i8")]
            parts.append(np.frombuffer("".join(text.fill_null("").to_list()).encode(), dtype=np.uint8))
        for part in parts:
            digest.update(part.tobytes())
    return digest.hexdigest()[:16]


def lacking(ranks: pl.DataFrame) -> str:
    """Which of the columns that are read are not there; empty where all are."""
    wanted = (*TARGET_KEY, "num_greater", "num_ties", "is_cold")
    missing = ", ".join(name for name in wanted if name not in ranks.columns)
    return f"has no column {missing}: it was written by an older version, or by something else" if missing else ""


def impossible_ranks(ranks: pl.DataFrame) -> str:
    """What is wrong with ranks that no test writes; empty for none."""
    if missing := lacking(ranks):
        return missing
    counts = [pl.col(name).is_null() | (pl.col(name) < 0) for name in ("num_greater", "num_ties")]
    if "rank" in ranks.columns:
        counts.append(pl.col("rank").is_null() | (pl.col("rank") < 1) | pl.col("rank").cast(pl.Float64).is_nan())
    bad = ranks.select(pl.any_horizontal(counts).sum()).item()
    return f"holds {number_of(bad, 'rank')} below 1 or no number" if bad else ""
