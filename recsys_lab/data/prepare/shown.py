"""What was shown (impressions): a table with a row per shown item -> `shown/`, the rows of an impression back to back.

Ids, times and labels are sorted in memory, about 60 bytes for a shown item; other columns are read some at a time.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import polars as pl

from recsys_lab.data.fields.coding import Coding, distinct
from recsys_lab.data.fields.kinds import Column, ColumnStats
from recsys_lab.data.fields.stored import StoredField, file_names
from recsys_lab.data.fields.wishes import Wishes
from recsys_lab.data.fields.writing import FieldWriter, Rows, in_rows
from recsys_lab.data.prepare.event_checks import ROW, as_seconds
from recsys_lab.data.prepare.event_fields import further_columns
from recsys_lab.data.prepare.integrity import IMPRESSIONS
from recsys_lab.data.prepare.store import FolderWriter
from recsys_lab.words import ITEM_ID, TIMESTAMP, USER_ID, RecsysLabError, number_of_these

log = logging.getLogger("recsys_lab")

IMPRESSION_ID, LABEL = "impression_id", "label"
UNKNOWN_USERS, UNKNOWN_ITEMS = "shown items of unknown users", "shown items without an id like those of the events"
"""Why some are left out, for the manifest."""
SHOWN_AT_ONCE = 1 << 22
"""Shown items that are written at once."""


@dataclass(frozen=True)
class WrittenShown:
    """What was written: fields, sizes, and what was left out by its reason."""

    fields: list[StoredField] = field(default_factory=list)
    num_impressions: int = 0
    num_shown: int = 0
    left_out: dict[str, int] = field(default_factory=dict)


def shown_columns(schema: pl.Schema) -> list[str]:
    """The columns of shown items that become fields."""
    return [name for name in further_columns(schema) if name not in (IMPRESSION_ID, LABEL)]


def only_shown(table: pl.LazyFrame | None, users: pl.Series, items: pl.Series) -> pl.Series:
    """Ids, ascending, of items that were shown to these users and have no event.

    They are items like others, behind those with events: what has an event is decided by what was clicked, be it after
    the split's cut, so that a list without the others would give its labels away.
    """
    if table is None or not {USER_ID, ITEM_ID} <= set(table.collect_schema().names()):
        return items.clear()
    try:
        of_users = table.filter(pl.col(USER_ID).cast(users.dtype, strict=False).is_in(users.implode()))
        ids = of_users.select(pl.col(ITEM_ID).cast(items.dtype, strict=False).unique()).collect(engine="streaming")
    except pl.exceptions.PolarsError:
        return items.clear()  # `write_shown` says what is wrong
    found = ids[ITEM_ID].drop_nulls()
    return found.filter(~found.is_in(items.implode())).sort()


def write_shown(
    table: pl.LazyFrame | None, users: pl.Series, items: pl.Series, wishes: Wishes, source: str, writer: FolderWriter
) -> WrittenShown:
    """Writes the impressions of users that have events; others are counted.

    Impressions are sorted by user, time and row of the source; the shown items of one stay in the order of the source.

    Args:
        table: `impression_id`, `user_id`, `item_id`, `label`, optionally `timestamp`, and any other columns.
        users: (U,) raw ids of the prepared users.
        items: (I,) raw ids of the prepared items, `only_shown` among them.
        wishes: what the user says of the other columns.

    Raises:
        RecsysLabError: for a column that is missing, labels that are no numbers, or when nothing is left.
    """
    if table is None:
        return WrittenShown()
    try:
        schema = table.collect_schema()
        numbered = table.with_row_index(ROW)
        coded, left_out = _coded(numbered, schema, users, items, source)
        order = coded[ROW].to_numpy()
        first = np.flatnonzero(np.diff(coded["first"].to_numpy().astype(np.int64), prepend=-1))
        writer.array("shown/item_ids", "int32", _parts(coded["item"].to_numpy()), len(order))
        writer.array("shown/labels", "float32", _parts(coded[LABEL].to_numpy()), len(order))
        writer.array("shown/offsets", "int64", [first, np.array([len(order)])], len(first) + 1)
        writer.array("shown/users", "int32", [coded["user"].to_numpy()[first]], len(first))
        writer.array("shown/timestamps", "int64", [coded["time"].to_numpy()[first]], len(first))
        writer.table(IMPRESSIONS, coded[IMPRESSION_ID].gather(first).to_frame())
        fields = _write_fields(table, schema, order, wishes, source, writer)
    except pl.exceptions.PolarsError as error:
        raise RecsysLabError(f"the impressions of {source!r} can't be read: {error}") from error
    for what, count in left_out.items():
        log.info("  %s left out", number_of_these(count, what))
    return WrittenShown(fields, len(first), len(order), left_out)


def _coded(
    table: pl.LazyFrame, schema: pl.Schema, users: pl.Series, items: pl.Series, source: str
) -> tuple[pl.DataFrame, dict[str, int]]:
    """Rows in order: `user` (0-based), `item` (1..), `time`, `label`, `impression_id`; and what was left out."""
    for name in (IMPRESSION_ID, USER_ID, ITEM_ID, LABEL):
        if name not in schema:
            raise RecsysLabError(
                f"{source!r}: the impressions have no column {name!r}; they have: {', '.join(schema.names())}"
            )
    label = _label(table, schema[LABEL], source)
    time = as_seconds(schema[TIMESTAMP]).floor().cast(pl.Int64) if TIMESTAMP in schema else pl.lit(0, pl.Int64)
    # a number and its text are one id: the events decide which it is
    found = table.select(
        ROW,
        pl.col(IMPRESSION_ID),
        pl.col(USER_ID).cast(users.dtype, strict=False),
        pl.col(ITEM_ID).cast(items.dtype, strict=False),
        label,
        time.alias("time"),
    )
    for ids, name, code in ((users, USER_ID, "user"), (items, ITEM_ID, "item")):
        codes = pl.LazyFrame({name: ids, code: np.arange(len(ids), dtype=np.int32) + (code == "item")})
        found = found.join(codes, on=name, how="left").drop(name)
    rows = found.collect(engine="streaming")
    missing = rows[IMPRESSION_ID].null_count()
    if missing:
        raise RecsysLabError(f"{source!r}: {missing:,} shown items have no {IMPRESSION_ID}")
    no_user, no_item = rows["user"].is_null(), rows["item"].is_null()
    counts = {
        UNKNOWN_USERS: no_user.sum(),
        UNKNOWN_ITEMS: (no_item & ~no_user).sum(),
    }
    kept = rows.filter(~no_user & ~no_item)
    if not kept.height:
        raise RecsysLabError(
            f"{source!r}: none of the {rows.height:,} shown items is of a user and an item that have events: are the "
            f"ids of the impressions those of the events ({users[0]!r}, {items[0]!r})?"
        )
    one = ("user", IMPRESSION_ID)
    kept = kept.with_columns(pl.col("time").min().over(one), pl.col(ROW).min().over(one).alias("first"))
    return kept.sort("user", "time", "first", ROW), {what: int(count) for what, count in counts.items() if count}


def _label(table: pl.LazyFrame, kind: pl.DataType, source: str) -> pl.Expr:
    """As a number; `true` and `false` of a text file are 1 and 0."""
    if kind.is_numeric() or kind == pl.Boolean:
        return pl.col(LABEL).cast(pl.Float32)
    text = pl.col(LABEL).cast(pl.String, strict=False).str.strip_chars().str.to_lowercase()
    number = text.replace({"true": "1", "false": "0", "": None}).cast(pl.Float32, strict=False)
    odd = table.filter(number.is_null() & (text != "")).select(ROW, pl.col(LABEL)).head(1).collect()
    if odd.height:
        raise RecsysLabError(
            f"{source!r}: the label of an impression is 1 for clicked or 0 for not, and row {odd[ROW][0] + 1} of the "
            f"impressions has {odd[LABEL][0]!r}"
        )
    return number.alias(LABEL)


def _write_fields(
    table: pl.LazyFrame, schema: pl.Schema, order: np.ndarray, wishes: Wishes, source: str, writer: FolderWriter
) -> list[StoredField]:
    columns = _columns(table, schema, wishes, source)
    files, found = file_names(column.name for column in columns), []
    for column in columns:
        name, coding = column.name, None
        stored = column.physical(name)
        if column.kind in ("categorical", "multi"):
            coding = Coding(distinct(table, column, name).collect(engine="streaming")["value"])
            stored = coding.codes(column, name)
        rows = table.select(stored.alias("value")).collect(engine="streaming")["value"].gather(order)
        parts = partial(_row_parts, rows, column)
        found.append(FieldWriter(writer, column, coding, files[name]).write(parts, len(order)))
    return found


def _columns(table: pl.LazyFrame, schema: pl.Schema, wishes: Wishes, source: str) -> list[Column]:
    stats = {
        name: ColumnStats(name, schema[name], wishes.of("shown", name))
        for name in shown_columns(schema)
        if not wishes.of("shown", name).drop
    }
    exprs = {
        f"{number}.{what}": expr
        for number, one in enumerate(stats.values())
        if not one.refused
        for what, expr in one.exprs().items()
    }
    row: dict[str, Any] = table.select(**exprs).collect(engine="streaming").row(0, named=True) if exprs else {}
    found = []
    for number, (name, one) in enumerate(stats.items()):
        facts = {"known": 0} if one.refused else {what: row[f"{number}.{what}"] for what in one.exprs()}
        column = one.column_of(name, "shown", facts, source)
        found += [] if column is None else [column]
    return found


def _row_parts(rows: pl.Series, column: Column) -> Iterator[Rows]:
    for start in range(0, len(rows), SHOWN_AT_ONCE):
        yield in_rows(rows[start : start + SHOWN_AT_ONCE], column)


def _parts(values: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(values), SHOWN_AT_ONCE):
        yield values[start : start + SHOWN_AT_ONCE]
