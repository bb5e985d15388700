"""Timestamps in whatever form -> unix seconds, or an error that names the row."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import polars as pl

from recsys_lab.schema import TIMESTAMP, RecsysLabError

log = logging.getLogger(__name__)

ROW = "__row"  # 0-based row of the file
NUMBER = ".number"  # ending of the name of a column parsed as a number
UNITS = {"seconds": 1, "milliseconds": 10**3, "microseconds": 10**6, "nanoseconds": 10**9}
LIMITS = {"seconds": 1e11, "milliseconds": 1e14, "microseconds": 1e17, "nanoseconds": float("inf")}
"""A number below the limit (and not below the one before) is taken to be in that unit.

1e11 is the year 5138 in seconds and March 1973 in milliseconds, and so on: events of 1973 to 5138 are never mistaken.
"""
_value = pl.col(TIMESTAMP + NUMBER)
ISO_FORMATS = ("%Y-%m-%dT%H:%M:%S%.f%:z", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d")


def unit_of(value: float) -> str:
    return next(unit for unit, limit in LIMITS.items() if value < limit)


@dataclass(frozen=True)
class Time:
    """The time column of a file: how to read it as a number, and what to look at in it."""

    column: str
    where: str
    number: pl.Expr  # Int64 or Float64, null where it can't be read
    unit: str | None  # known from the type, else to be found from the size of the numbers

    @classmethod
    def of(cls, raw: pl.LazyFrame, column: str, where: str) -> Time:
        dtype, value = raw.collect_schema()[TIMESTAMP], pl.col(TIMESTAMP)
        if dtype.is_integer():
            return cls(column, where, value.cast(pl.Int64), None)
        if dtype.is_float():
            return cls(column, where, pl.when(value.is_finite()).then(value.cast(pl.Float64)), None)
        if dtype == pl.Datetime or dtype == pl.Date:
            return cls(column, where, value.dt.epoch("us"), "microseconds")
        if dtype == pl.String:
            start = raw.select(TIMESTAMP).head(1000).collect()[TIMESTAMP].drop_nulls()
            if start.is_empty() or _is_number(start[0]):
                # as Float64: exact for whole seconds, milli- and microseconds; nanoseconds are good to 256 ns
                number = value.cast(pl.Float64, strict=False)
                return cls(column, where, pl.when(number.is_finite()).then(number), None)
            return cls(column, where, _iso(value), "microseconds")
        raise RecsysLabError(
            f"{where}: column {column!r} is of type {dtype}; a time is a number, a date or ISO 8601 text"
        )

    def stats(self) -> dict[str, pl.Expr]:
        """Of a table that has `number` as its column `timestamp.number`, as the rest of this class."""
        stats = {
            "broken": _value.is_null().sum(),
            "negative": (_value < 0).sum(),
            "min": _value.min(),
            "max": _value.max(),
        }
        for unit, divisor in UNITS.items():
            stats[f"whole_{unit}"] = (_value % divisor == 0).all()
        return stats

    def convert(self, found: dict[str, Any], table: pl.LazyFrame) -> pl.Expr:
        """Seconds; Int64 if they all are whole, else Float64, so that no order within a second is lost."""
        if found["broken"]:
            raise self._bad(table.filter(_value.is_null()), f"{found['broken']:,} timestamps that can't be read")
        if found["negative"]:
            raise self._bad(table.filter(_value < 0), f"{found['negative']:,} timestamps before 1970 (negative)")
        unit = self.unit or unit_of(found["max"])
        if self.unit is None and unit_of(found["min"]) != unit:
            raise self._mixed(unit_of(found["min"]), unit, table)
        if self.unit is None and unit != "seconds":
            log.info("%s: column %r is in %s; read as seconds", self.where, self.column, unit)
        if found[f"whole_{unit}"]:
            return _value.cast(pl.Int64) // UNITS[unit]
        return _value / UNITS[unit]

    def _bad(self, rows: pl.LazyFrame, what: str) -> RecsysLabError:
        row, value = rows.select(ROW, TIMESTAMP).head(1).collect().row(0)
        return RecsysLabError(
            f"{self.where}: column {self.column!r} has {what}, first in row {row + 1}: {value!r}. "
            "A time is unix seconds (or milli-, micro-, nanoseconds throughout), a date, or ISO 8601 text"
        )

    def _mixed(self, low: str, high: str, table: pl.LazyFrame) -> RecsysLabError:
        limit = list(LIMITS.values())[list(LIMITS).index(high) - 1]
        seen = []
        for unit, mask in ((low, _value < LIMITS[low]), (high, _value >= limit)):
            row, value = table.filter(mask).select(ROW, TIMESTAMP).head(1).collect().row(0)
            seen.append(f"row {row + 1} has {value} ({unit})")
        return RecsysLabError(
            f"{self.where}: column {self.column!r} mixes units: {' and '.join(seen)}. Bring it to one unit; "
            "a 0 that stands for a missing time has to go"
        )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _iso(value: pl.Expr) -> pl.Expr:
    """ISO 8601 text as microseconds; without a zone it is taken as UTC."""
    text = value.str.strip_chars().str.replace(" ", "T", literal=True).str.replace("Z$", "+00:00")
    parsed = [
        text.str.to_datetime(f, strict=False, time_unit="us", time_zone="UTC" if f.endswith("%:z") else None).dt.epoch(
            "us"
        )
        for f in ISO_FORMATS
    ]
    return pl.coalesce(parsed)
