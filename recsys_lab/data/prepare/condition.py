"""`--keep "rating>=4"`: which rows of the events are kept, by what is in a column."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from operator import eq, ge, gt, le, lt
from typing import Any

import polars as pl

from recsys_lab.data.reading.spelling import is_command_line, option
from recsys_lab.words import TIMESTAMP, RecsysLabError, did_you_mean

FORM = re.compile(r"^\s*(?P<column>.+?)\s*(?P<op>!=|<=|>=|==|=|<|>|\s+in\s)\s*(?P<value>.*?)\s*$", re.DOTALL)
EXAMPLES = "'rating>=4', 'event_type=buy', 'country!=DE' or 'event_type in buy,cart'"


@dataclass(frozen=True)
class Condition:
    """One condition on a column. Rows without a value are dropped by all but `!=`.

    Attributes:
        text: as it was typed, in one form: without needless spaces.
        column: its name.
        op: =, !=, <, <=, >, >= or in.
        values: what it is compared with; one but for `in`.
    """

    text: str
    column: str
    op: str
    values: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Condition:
        """Raises RecsysLabError for another form than COLUMN OP VALUE."""
        match = FORM.match(text)
        if match is None or not match["value"]:
            raise RecsysLabError(f"{option('keep')} {text!r} is no condition: write COLUMN OP VALUE, as {EXAMPLES}.")
        op = match["op"].strip().replace("==", "=")
        values = tuple(part.strip() for part in match["value"].split(",")) if op == "in" else (match["value"],)
        if not all(values):
            raise RecsysLabError(f"{option('keep')} {text!r} has an empty value between its commas.")
        plain = f"{match['column']} in {','.join(values)}" if op == "in" else f"{match['column']}{op}{values[0]}"
        return cls(plain, match["column"], op, values)

    @property
    def advice(self) -> str:
        """What to type where a value with commas in it was meant as several values, or as several conditions."""
        first, comma, rest = self.values[0].partition(",")
        if not comma or self.op == "in":
            return ""
        if FORM.match(rest):
            two = [f"{self.column}{self.op}{first.strip()}", rest.strip()]
            typed = " ".join(f"--keep '{one}'" for one in two) if is_command_line() else f"keep={two}"
            return f" Two conditions are written {typed}."
        several = option("keep", f"{self.column} in {self.values[0]}")
        return f" Any of several values is written {several}." if self.op == "=" else ""

    def mask(self, schema: pl.Schema, source: str) -> pl.Expr:
        """True for the rows that are kept.

        Raises:
            RecsysLabError: for a column that the events don't have, or values that can't be compared with its own.
        """
        if self.column not in schema:
            hint = did_you_mean(self.column, schema.names())
            raise RecsysLabError(
                f"{option('keep')} {self.text!r}: the events of {source!r} have no column {self.column!r}.{hint} They "
                f"have: {', '.join(schema.names()[:30])}."
            )
        dtype, column = schema[self.column], pl.col(self.column)
        if dtype == pl.Boolean and set(self.values) <= {"0", "1"}:
            column, dtype = column.cast(pl.Int8), pl.Int8()
        if dtype == pl.Boolean or isinstance(dtype, pl.Categorical | pl.Enum):
            column, dtype = column.cast(pl.String), pl.String()
        if dtype.is_nested() or dtype == pl.Binary:
            raise RecsysLabError(
                f"{option('keep')} {self.text!r}: {self.column!r} is of type {dtype}, not plain values."
            )
        if dtype == pl.String:
            return self._of_text(column)
        if dtype.is_numeric():
            wanted = [self._number(value) for value in self.values]
            # in polars NaN is above every number; one that is none must not pass
            return self._compared(column.fill_nan(None) if dtype.is_float() else column, wanted)
        return self._compared(column.cast(pl.Datetime("us")), [self._date(value) for value in self.values])

    def _of_text(self, column: pl.Expr) -> pl.Expr:
        if self.op in ("=", "!=", "in"):
            return self._compared(column, list(self.values))
        return self._compared(column.cast(pl.Float64, strict=False), [self._number(value) for value in self.values])

    def _compared(self, column: pl.Expr, wanted: list[Any]) -> pl.Expr:
        if self.op == "in":
            return column.is_in(wanted).fill_null(False)
        if self.op == "!=":
            return column.ne_missing(pl.lit(wanted[0]))
        compare = {"=": eq, "<": lt, "<=": le, ">": gt, ">=": ge}[self.op]
        return pl.Expr.fill_null(compare(column, wanted[0]), False)

    def _number(self, value: str) -> Any:
        for kind in (int, float):
            try:
                number = kind(value)
            except ValueError:
                continue
            if number == number:
                return number
        moment = _moment(value) if self.column == TIMESTAMP else None
        if moment is not None:
            return int(moment.timestamp())
        raise RecsysLabError(
            f"{option('keep')} {self.text!r}: {self.column!r} is compared as numbers, and {value!r} is none."
            f"{self.advice}"
        )

    def _date(self, value: str) -> dt.datetime:
        moment = _moment(value)
        if moment is None:
            raise RecsysLabError(f"{option('keep')} {self.text!r}: {self.column!r} holds dates, and {value!r} is none.")
        return moment.replace(tzinfo=None)


def _moment(value: str) -> dt.datetime | None:
    """A date, or date and time, in ISO 8601; in UTC where it names no zone."""
    try:
        moment = dt.datetime.fromisoformat(value)
    except ValueError:
        return None
    return moment.replace(tzinfo=dt.UTC) if moment.tzinfo is None else moment.astimezone(dt.UTC)
