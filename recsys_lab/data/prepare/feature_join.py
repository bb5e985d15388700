"""The table of items, or of users, joined to the ids of the events."""

from __future__ import annotations

import logging
from typing import Any

import polars as pl

from recsys_lab.data.reading.spelling import option
from recsys_lab.words import RecsysLabError, number_of

log = logging.getLogger("recsys_lab")


def with_features(
    ids: pl.Series, features: pl.LazyFrame | None, name: str, source: str
) -> tuple[pl.DataFrame, dict[str, Any]]:
    """The id table in vocabulary order with its features joined (null where there are none), and counts of the join.

    Raises:
        RecsysLabError: for a table without the id column, with rows that say two things of one id, or with no row of
            these ids.
    """
    table = ids.to_frame(name)
    if features is None:
        return table, {"columns": [], "without_row": len(ids), "duplicate_rows": 0}
    try:
        loaded = features.collect()
        if name not in loaded.columns:
            raise RecsysLabError(
                f"{source!r}: the feature table has no column {name!r}; it has: {', '.join(loaded.columns)}"
            )
        # an id that isn't of the interactions' type can't be in them: its row is of no use
        loaded = loaded.with_columns(pl.col(name).cast(ids.dtype, strict=False)).drop_nulls(name)
    except pl.exceptions.PolarsError as error:
        raise RecsysLabError(f"{source!r}: the feature table with {name!r} can't be read: {error}") from error
    unique = loaded.unique(name, keep="first", maintain_order=True)
    duplicates = loaded.height - unique.height
    if duplicates:
        of_row = loaded.select(name, row=loaded.hash_rows())
        again = of_row.unique(maintain_order=True)[name]
        differing = again.filter(again.is_duplicated())
        if len(differing):
            raise RecsysLabError(
                f"{source!r}: the feature table has {differing.n_unique():,} {name} with rows that differ, first "
                f"{differing[0]!r}: keep one row for each {name} in that table"
            )
        log.warning("%s: %d rows of the feature table repeat %s; the first is kept", source, duplicates, name)
    missing = ids.filter(~ids.is_in(unique[name].implode()))
    if len(missing) == len(ids) and unique.height:
        what = name.removesuffix("_id")
        raise RecsysLabError(
            f"{source!r}: none of the {len(ids):,} {name}s of the events has a row in the table of {what}s: there they "
            f"are like {_some(unique[name])}, in the events like {_some(ids)}. Name the right column with "
            f"{option(f'{what}s_column')}, or leave the table out"
        )
    if len(missing):
        level = logging.WARNING if 2 * len(missing) > len(ids) else logging.INFO
        log.log(level, "  %d of %d %s have no feature row, such as %s", len(missing), len(ids), name, _some(missing))
    others = unique.height - (len(ids) - len(missing))
    if others:
        what = name.removesuffix("_id")
        log.info("  %s without an event left out of the table of %ss", number_of(others, what), what)
    joined = table.join(unique, on=name, how="left", maintain_order="left")
    return joined, {"columns": joined.columns[1:], "without_row": len(missing), "duplicate_rows": duplicates}


def _some(ids: pl.Series) -> str:
    return ", ".join(repr(value) for value in ids.head(2))
