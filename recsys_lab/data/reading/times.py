"""Timestamps in whatever form -> unix seconds, or an error that names the row."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from recsys_lab.data.reading import asks
from recsys_lab.data.reading.iso_times import iso_microseconds
from recsys_lab.data.reading.spelling import again, option
from recsys_lab.words import TIMESTAMP, RecsysLabError, number_of

log = logging.getLogger(__name__)

ROW = "__row"  # 0-based row of the file
NUMBER = ".number"  # ending of the name of a column parsed as a number
UNITS = {"seconds": 1, "milliseconds": 10**3, "microseconds": 10**6, "nanoseconds": 10**9}
LIMITS = {"seconds": 1e11, "milliseconds": 1e14, "microseconds": 1e17, "nanoseconds": float("inf")}
"""A number below the limit (and not below the one before) is taken to be in that unit.

1e11 is the year 5138 in seconds and March 1973 in milliseconds, and so on: events of 1973 to 5138 are never mistaken.
"""
LATEST = 100_000_000_000  # seconds: the year 5138
SURELY_LATER = 100_000_000  # seconds, March 1973: beside such times a 0 stands for a missing time
CALENDAR = {"%Y%m%d": (19000101, 21001231), "%Y%m%d%H%M": (190001010000, 210012312359),
            "%Y%m%d%H%M%S": (19000101000000, 21001231235959)}  # fmt: skip
"""Dates that are written as one number, 20200913 or 20200913125919, and the range in which they lie."""
_value = pl.col(TIMESTAMP + NUMBER)
TICKS_END = 788_918_400 * 10**9
"""1995 in nanoseconds. Today's ticks of .NET (since the year 1) and Windows (since 1601) look like 1974 to 1990."""
YEAR_LAST = re.compile(r"\s*\d{1,2}[./-]\d{1,2}[./-]\d{4}\b")
SHORT_YEAR = re.compile(r"\s*\d{2}[./-]\d{1,2}[./-]\d{1,2}\b")
_DATE = re.compile(r"\s*\d{4}(-\d|\d{4}[T ])")


def unit_of(value: float) -> str:
    return next(unit for unit, limit in LIMITS.items() if value < limit or unit == "nanoseconds")


@dataclass(frozen=True)
class Time:
    """The time column of a file: how to read it as a number, and what to look at in it."""

    column: str
    where: str
    number: pl.Expr  # Int64 or Float64, null where it can't be read
    unit: str | None  # known from the type, else to be found from the size of the numbers
    is_iso: bool = False

    @classmethod
    def of(cls, raw: pl.LazyFrame, column: str, where: str) -> Time:
        dtype, value = raw.collect_schema()[TIMESTAMP], pl.col(TIMESTAMP)
        if dtype.is_integer():
            return cls(column, where, value.cast(pl.Int64, strict=False), None)
        if dtype.is_float() or dtype.is_decimal():
            number = value.cast(pl.Float64)
            return cls(column, where, pl.when(number.is_finite()).then(number), None)
        if dtype == pl.Datetime or dtype == pl.Date:
            return cls(column, where, value.dt.epoch("us"), "microseconds")
        if dtype == pl.String:
            start = asks.head(raw.select(TIMESTAMP), 1000)[TIMESTAMP].drop_nulls()
            if _mostly_numbers(start.to_list()):
                # as Float64: exact for whole seconds, milli- and microseconds; nanoseconds are good to 256 ns
                number = value.cast(pl.Float64, strict=False)
                return cls(column, where, pl.when(number.is_finite()).then(number), None)
            return cls(column, where, iso_microseconds(value), "microseconds", is_iso=True)
        if dtype == pl.Null:
            raise RecsysLabError(f"{where}: column {column!r} has no value in any row, so it is no time")
        raise RecsysLabError(
            f"{where}: column {column!r} is of type {dtype}; a time is a number, a date or ISO 8601 text"
        )

    def in_any_form(self) -> Time:
        """Text also in the rarer forms of ISO 8601, which cost more to read."""
        return replace(self, number=iso_microseconds(pl.col(TIMESTAMP), rare=True)) if self.is_iso else self

    def stats(self) -> dict[str, pl.Expr]:
        """Of a table that has `number` as its column `timestamp.number`, as the rest of this class."""
        stats = {
            "rows": pl.len(),
            "broken": _value.is_null().sum(),
            "negative": (_value < 0).sum(),
            "zero": (_value == 0).sum(),
            "min": _value.min(),
            "max": _value.max(),
        }
        for unit, divisor in UNITS.items():
            stats[f"whole_{unit}"] = (_value % divisor == 0).all()
        return stats

    def unusable(self, table: pl.LazyFrame) -> pl.Expr:
        """Rows without a usable time: unreadable, before 1970, after the year 5138, or a 0 beside times after 1973."""
        largest = asks.row(table.select(_value.max().alias("max")))["max"]
        unit = self.unit or unit_of(largest if largest is not None else 0)
        later = asks.row(table.select(_value.filter(_value > 0).min().alias("min")))["min"]
        bad = _value.is_null() | (_value < 0) | (_value >= LATEST * UNITS[unit])
        if later is not None and later >= SURELY_LATER * UNITS[unit]:
            bad = bad | (_value == 0)
        return bad

    def convert(self, found: dict[str, Any], table: pl.LazyFrame) -> pl.Expr:
        """Seconds; Int64 if they all are whole, else Float64, so that no order within a second is lost."""
        if found["broken"]:
            what, some = number_of(found["broken"], "timestamp"), found["broken"] < found["rows"]
            raise self._bad(table.filter(_value.is_null()), f"{what} that can't be read", some)
        if found["negative"]:
            what, some = number_of(found["negative"], "timestamp"), found["negative"] < found["rows"]
            raise self._bad(table.filter(_value < 0), f"{what} before 1970 (negative)", some)
        unit = self.unit or unit_of(found["max"])
        if self.unit is None:
            calendar = self._calendar(found, table)
            if calendar is not None:
                return calendar
            if unit_of(found["min"]) != unit:
                raise self._mixed(unit_of(found["min"]), unit, table, bool(found["zero"]))
            if unit != "seconds":
                log.info("%s: column %r is in %s; read as seconds", self.where, self.column, unit)
            if unit == "nanoseconds" and found["max"] < TICKS_END:
                log.warning(
                    "%s: column %r is read as nanoseconds since 1970. If it holds ticks of 100 ns (.NET, Windows), "
                    "bring it to seconds since 1970", self.where, self.column,
                )  # fmt: skip
        if found["max"] >= LATEST * UNITS[unit]:
            late, some = _value >= LATEST * UNITS[unit], found["min"] < LATEST * UNITS[unit]
            raise self._bad(table.filter(late), "timestamps after the year 5138", some)
        if found["zero"] and found["max"] >= SURELY_LATER * UNITS[unit]:
            log.warning(
                "%s: column %r has the time 0 in %s: it is read as 1970. If it stands for a missing time, drop "
                "those rows: %s", self.where, self.column, number_of(found["zero"], "row"),
                again(option("bad_times", "drop")),
            )  # fmt: skip
        if found[f"whole_{unit}"]:
            return _value.cast(pl.Int64) // UNITS[unit]
        return _value / UNITS[unit]

    def _calendar(self, found: dict[str, Any], table: pl.LazyFrame) -> pl.Expr | None:
        """Numbers that are dates (20200913) as seconds; None where the numbers are none."""
        for form, (low, high) in CALENDAR.items():
            if not (low <= found["min"] and found["max"] <= high and found["whole_seconds"]):
                continue
            moment = _value.cast(pl.Int64).cast(pl.String).str.to_datetime(form, strict=False, time_unit="us")
            counts = {"all": pl.len(), "valid": moment.is_not_null().sum()}
            rows, valid = asks.row(table.select(**counts)).values()
            if 2 * valid < rows:
                return None
            if valid < rows:
                what = "numbers that are no date, beside dates like 20200913"
                raise self._bad(table.filter(moment.is_null()), what, False)
            log.info("%s: column %r holds dates as numbers; read as dates in UTC", self.where, self.column)
            return moment.dt.epoch("us") // 10**6
        return None

    def _bad(self, rows: pl.LazyFrame, what: str, some: bool) -> RecsysLabError:
        """`some`: other rows are good, so that these can be left out."""
        row, value = rows.select(ROW, TIMESTAMP).head(1).collect().row(0)
        shown = repr(value if isinstance(value, str | int | float) or value is None else str(value))
        text = value if isinstance(value, str) else ""
        fix = "A time is unix seconds (or milli-, micro-, nanoseconds throughout), a date, or ISO 8601 text."
        if YEAR_LAST.match(text):
            fix = "Day and month can't be told apart there: write the year first, as in 2020-09-13."
        elif SHORT_YEAR.match(text):
            fix = "Write the year with four digits, as in 2020-09-13."
        leave = f" To leave such rows out: {option('bad_times', 'drop')}" if some else ""
        return RecsysLabError(
            f"{self.where}: column {self.column!r} has {what}, first in row {row + 1}: {shown}. {fix}{leave}"
        )

    def _mixed(self, low: str, high: str, table: pl.LazyFrame, zeros: bool) -> RecsysLabError:
        limit = list(LIMITS.values())[list(LIMITS).index(high) - 1]
        seen = []
        for unit, mask in ((low, _value < LIMITS[low]), (high, _value >= limit)):
            row, value = table.filter(mask).select(ROW, TIMESTAMP).head(1).collect().row(0)
            seen.append(f"row {row + 1} has {value} ({unit})")
        drop = f"; rows with a 0 that stands for a missing time can be dropped: {option('bad_times', 'drop')}"
        return RecsysLabError(
            f"{self.where}: column {self.column!r} mixes units: {' and '.join(seen)}. Bring it to one unit"
            f"{drop if zeros else ''}"
        )


def _mostly_numbers(values: list[str]) -> bool:
    """Whether a text column holds numbers rather than dates; of as many of both, the first decides."""
    kinds = [kind for kind in map(_kind, values) if kind]
    numbers = kinds.count("number")
    even = bool(kinds) and 2 * numbers == len(kinds) and kinds[0] == "number"
    return not values or 2 * numbers > len(kinds) or even


def _kind(text: str) -> str:
    if _DATE.match(text):
        return "date"
    try:
        float(text)
    except ValueError:
        return ""
    return "number"
