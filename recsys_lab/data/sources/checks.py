"""Raw columns -> canonical ones. Every check sits in one streaming aggregation; only an error costs a second pass."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import polars as pl

from recsys_lab.data.sources.columns import ORDER
from recsys_lab.data.sources.times import NUMBER, ROW, Time
from recsys_lab.schema import EVENT_TYPE, ITEM_ID, RATING, TIMESTAMP, USER_ID, RecsysLabError

log = logging.getLogger(__name__)

SMALL_ROWS = 1 << 21
"""Tables of so many rows are held in memory: at most some 200 MB, where ids and times are text."""


def canonical(raw: pl.LazyFrame, columns: Mapping[str, str], where: str) -> pl.LazyFrame:
    """Check `raw` and give its columns their canonical names and types (see `RawTables`).

    Args:
        raw: the file as it was scanned; text formats with every column as String.
        columns: canonical name -> name in the file.
        where: the file, for messages.

    Raises:
        RecsysLabError: empty table, missing ids, unusable timestamps, ratings or order, naming column, row and value.
    """
    raw = read_once(raw.select(**{c: pl.col(n) for c, n in columns.items()})).with_row_index(ROW)
    schema = raw.collect_schema()
    ids = {c: _Id(c, columns[c], schema[c], where) for c in (USER_ID, ITEM_ID)}
    time = Time.of(raw, columns[TIMESTAMP], where) if TIMESTAMP in columns else None
    numbers = [c for c in (RATING, ORDER) if c in columns]
    # parsed once as columns of their own: written inside each statistic, text would be parsed once for each
    parsed = {name: _as_number(name) for name in numbers}
    parsed |= {name: column.value.cast(pl.Int64, strict=False) for name, column in ids.items() if column.is_text}
    if time is not None:
        parsed[TIMESTAMP] = time.number
    raw = raw.with_columns(**{name + NUMBER: expr for name, expr in parsed.items()})

    stats: dict[str, pl.Expr] = {"rows": pl.len()}
    for name, column in ids.items():
        stats |= {f"{name}.{k}": e for k, e in column.stats().items()}
    if time is not None:
        stats |= {f"time.{k}": e for k, e in time.stats().items()}
    for name in numbers:
        stats[f"{name}.broken"] = _broken(name).sum()
        stats[f"{name}.whole"] = (pl.col(name + NUMBER) % 1 == 0).all()
    found = raw.select(**stats).collect(engine="streaming").row(0, named=True)

    if found["rows"] == 0:
        raise RecsysLabError(f"{where} is empty: it has no rows")
    out = {name: column.convert({k: found[f"{name}.{k}"] for k in column.stats()}) for name, column in ids.items()}
    if time is not None:
        out[TIMESTAMP] = time.convert({k: found[f"time.{k}"] for k in time.stats()}, raw)
    if EVENT_TYPE in columns:
        out[EVENT_TYPE] = pl.col(EVENT_TYPE).cast(pl.String)
    for name in numbers:
        if found[f"{name}.broken"]:
            row, value = raw.filter(_broken(name)).select(ROW, name).head(1).collect().row(0)
            raise RecsysLabError(
                f"{where}: column {columns[name]!r} has {found[f'{name}.broken']:,} values that are not numbers, "
                f"first in row {row + 1}: {value!r}"
            )
        number = pl.col(name + NUMBER)
        out[name] = number.cast(pl.Int64) if name == ORDER and found[f"{name}.whole"] else number
    if ORDER not in out:
        out[ORDER] = pl.col(ROW).cast(pl.Int64)
    return raw.select(**out)


def read_once(table: pl.LazyFrame) -> pl.LazyFrame:
    """The table from memory where it is small enough: three passes follow, and each would read the file again."""
    start = table.head(SMALL_ROWS + 1).collect(engine="streaming")
    return start.lazy() if start.height <= SMALL_ROWS else table


def _as_number(name: str) -> pl.Expr:
    number = pl.col(name).cast(pl.Float64, strict=False)
    return pl.when(number.is_finite()).then(number)


def _broken(name: str) -> pl.Expr:
    """An event may be without a rating, but not without a place in the order."""
    broken = pl.col(name + NUMBER).is_null()
    return broken if name == ORDER else broken & pl.col(name).is_not_null()


class _Id:
    """A column of ids: whole numbers stay numbers (so that they sort as such), anything else is text."""

    def __init__(self, name: str, column: str, dtype: pl.DataType, where: str) -> None:
        self.column, self.dtype, self.where = column, dtype, where
        self.value, self.number = pl.col(name), pl.col(name + NUMBER)
        if dtype in (pl.Categorical, pl.Enum, pl.Boolean):
            self.dtype, self.value = pl.String(), self.value.cast(pl.String)
        elif not (dtype == pl.String or dtype.is_integer() or dtype.is_float() or dtype == pl.Null):
            raise RecsysLabError(f"{where}: column {column!r} is of type {dtype}; ids are whole numbers or text")

    @property
    def is_text(self) -> bool:
        return self.dtype == pl.String

    def stats(self) -> dict[str, pl.Expr]:
        if self.is_text:
            blank = self.value.is_null() | (self.value.str.strip_chars() == "")
            # "007" and "7" are two ids: a number only counts as one if it is written the way it is printed
            whole = self.number.cast(pl.String) == self.value
            return {"missing": blank.sum(), "whole": whole.sum(), "rows": pl.len()}
        missing = self.value.is_null()
        if self.dtype.is_float():
            missing = missing | self.value.is_nan()
            return {"missing": missing.sum(), "whole": (self.value % 1 == 0).sum(), "rows": pl.len()}
        return {"missing": missing.sum(), "whole": self.value.count(), "rows": pl.len()}

    def convert(self, found: dict[str, int]) -> pl.Expr:
        if found["missing"]:
            raise RecsysLabError(
                f"{self.where}: column {self.column!r} has {found['missing']:,} missing ids in {found['rows']:,} rows; "
                "drop those rows, or name another column"
            )
        if self.is_text:
            if found["whole"] == found["rows"]:
                return self.number
            if found["whole"]:
                log.info("%s: column %r mixes numbers and text, so all its ids are text", self.where, self.column)
            return self.value
        if self.dtype.is_float():
            if found["whole"] != found["rows"]:
                raise RecsysLabError(
                    f"{self.where}: column {self.column!r} has fractions; ids are whole numbers or text"
                )
            return self.value.cast(pl.Int64)
        return self.value if self.dtype in (pl.UInt64, pl.Int128) else self.value.cast(pl.Int64)
