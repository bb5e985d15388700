"""What raw interactions must be like: the columns that are needed, and one aggregation that finds every bad value."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import polars as pl

from recsys_lab.data.prepare.prepare_settings import PrepareSettings
from recsys_lab.data.reading.columns import column_option
from recsys_lab.data.reading.spelling import is_command_line, option
from recsys_lab.words import EVENT_TYPE, ITEM_ID, RATING, TIMESTAMP, USER_ID, RecsysLabError

ORDER = "order"
ROW = "_row"  # row number of the source: the last sort key, so that no engine's row order shows in the result
NULL_TYPE = f"null {EVENT_TYPE}"
MAX_SECONDS = 100_000_000_000  # the year 5138; the same moment in milliseconds is 1973


def check_columns(schema: pl.Schema, settings: PrepareSettings, source: str) -> None:
    """Raises RecsysLabError that names a missing column, why it is needed, and the columns that are there."""
    needed = {USER_ID: "", ITEM_ID: "", ORDER: ""}
    if settings.min_rating is not None:
        needed[RATING] = f", which {option('min_rating')} needs"
    if settings.event_types is not None:
        needed[EVENT_TYPE] = f", which {option('event_types')} needs"
    if settings.duplicates == "drop":
        needed[TIMESTAMP] = f", which {option('duplicates', 'drop')} needs (without time, use 'first' or 'last')"
    missing = [f"{name!r}{why}" for name, why in needed.items() if name not in schema]
    if missing:
        raise RecsysLabError(
            f"{source!r} has no column {' and no column '.join(missing)}; it has: {', '.join(schema.names())}"
        )


def as_id(dtype: pl.DataType, name: str, source: str) -> pl.Expr:
    """The id as integer or string. Whole floats (an integer column that passed through pandas) become integers."""
    if dtype.is_integer() or dtype == pl.String:
        return pl.col(name)
    if dtype in (pl.Categorical, pl.Enum):
        return pl.col(name).cast(pl.String)
    if dtype.is_float():
        return pl.col(name).cast(pl.Int64, strict=False)  # `ValueChecks` reports those that are not whole
    raise RecsysLabError(f"{source!r}: {name} is of type {dtype}; ids are whole numbers or strings")


def as_seconds(dtype: pl.DataType) -> pl.Expr:
    """Seconds since 1970, fractions kept: they order events."""
    time = pl.col(TIMESTAMP)
    if dtype.is_integer():
        return time.cast(pl.Int64)
    if dtype.is_float():
        return time.cast(pl.Float64)
    if dtype == pl.Date:
        return time.cast(pl.Datetime("us")).dt.epoch("s")
    if dtype == pl.Datetime:
        return time.dt.epoch("us") / 1_000_000
    raise RecsysLabError(f"timestamp is of type {dtype}; it must be a number of seconds since 1970 or a date and time")


class ValueChecks:
    """Null ids, ids that are no whole numbers, timestamps that are null, not a number, negative or not in seconds."""

    def __init__(self, raw: pl.LazyFrame, schema: pl.Schema, source: str, passed: Collection[pl.Expr] = ()) -> None:
        """`passed`: what the filters of single events pass. A type is only asked of events that they leave."""
        self.raw, self.source = raw, source
        checked = [name for name in (USER_ID, ITEM_ID, ORDER, TIMESTAMP, EVENT_TYPE) if name in schema]
        self.wrong = {f"null {name}": pl.col(name).is_null() for name in checked}
        if EVENT_TYPE in schema:
            self.wrong[NULL_TYPE] = pl.all_horizontal(pl.col(EVENT_TYPE).is_null(), *passed)
        if TIMESTAMP in schema:
            dtype, time = schema[TIMESTAMP], as_seconds(schema[TIMESTAMP])
            if dtype.is_float():
                self.wrong["timestamp that is not a finite number"] = ~time.is_finite()
            self.wrong["negative timestamp"] = time < 0
            self.wrong["timestamp after the year 5138"] = time >= MAX_SECONDS
        self.fractions = {
            name: (pl.col(name) % 1 != 0) | ~pl.col(name).is_finite()
            for name in (USER_ID, ITEM_ID)
            if schema[name].is_float()
        }

    def query(self) -> pl.LazyFrame:
        """One row: how many rows there are, how many have each fault, and whether the order is that of the rows."""
        counted = {**self.wrong, **self.fractions}
        return self.raw.select(
            pl.len().alias("rows"),
            (pl.col(ORDER) == pl.col(ROW)).all().alias("order is row"),
            *(expr.sum().alias(what) for what, expr in counted.items()),
        )

    def require(self, found: dict[str, Any]) -> None:
        """Raises RecsysLabError that names the first fault of what `query` found, with its first row."""
        if found["rows"] == 0:
            raise RecsysLabError(f"{self.source!r} has no interactions: its table is empty")
        for what, expr in self.wrong.items():
            if not found[what]:
                continue
            first = self._first(expr, ROW)
            text = f"{self.source!r} has {found[what]} of {found['rows']} rows with a {what}, the first is row"
            text = f"{text} {first + 1}"
            if what == NULL_TYPE:
                text += self._without_nulls()
            if "5138" in what:
                text += (
                    ": the units are mixed, some rows are in seconds and others look like milliseconds"
                    if found[what] < found["rows"]
                    else ": they look like milliseconds; timestamps are seconds since 1970, divide them"
                )
            raise RecsysLabError(text)
        for name, expr in self.fractions.items():
            if found[name]:
                raise RecsysLabError(
                    f"{self.source!r}: {name} holds the number {self._first(expr, name)}; ids are whole numbers or "
                    "strings"
                )

    def _without_nulls(self) -> str:
        """How rows without a type are left out."""
        types = self.raw.select(pl.col(EVENT_TYPE).cast(pl.String).unique().drop_nulls().sort())
        names = types.head(6).collect(engine="streaming")[EVENT_TYPE].to_list()
        if not names or len(names) > 5 or any("," in name or name != name.strip() for name in names):
            return f"; name another column with {column_option(EVENT_TYPE)}"
        condition = f"{EVENT_TYPE} in {','.join(names)}"
        keep = option("keep", condition) if is_command_line() else f"keep={[condition]!r}"
        return f"; leave those rows out with {keep}"

    def _first(self, expr: pl.Expr, name: str) -> Any:
        return self.raw.filter(expr).select(name).head(1).collect(engine="streaming").item()
