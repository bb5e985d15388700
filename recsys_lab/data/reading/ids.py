"""Columns of ids: whole numbers stay numbers, anything else is text; and the words that stand for a missing id."""

from __future__ import annotations

import logging

import polars as pl

from recsys_lab.data.reading import asks
from recsys_lab.data.reading.columns import column_option
from recsys_lab.data.reading.spelling import option
from recsys_lab.data.reading.times import NUMBER, ROW
from recsys_lab.words import ITEM_ID, RecsysLabError, number_of

log = logging.getLogger(__name__)

NULL_WORDS = ("", "\\N", "n/a", "na", "nan", "nil", "none", "null", "<na>", "#n/a", "undefined", "unknown")
"""In lower case. They are ids like any others (NA may be Namibia), but whoever has them should know."""


WHOLE = r"^-?(0|[1-9]\d{0,17})(\.0+)?$"
FLOATS = r"^-?(0|[1-9]\d{0,17})\.0+$"
"""A whole number, perhaps or surely written as a float."""
NESTED = r"""^\s*(\{\s*(["'].*:.*)?\}|\[\s*(["'{\[\d-].*)?\])\s*$"""
"""A JSON object or list, also as Python prints them. `{4F-1A}` and `[deleted]` are names."""


def may_be_nested(value: pl.Expr) -> pl.Expr:
    return value.str.starts_with("{") | value.str.starts_with("[")


def refuse_nested(table: pl.LazyFrame, name: str, column: str, where: str) -> None:
    """Raises RecsysLabError for text that is a JSON object or list, naming the first row."""
    found = table.filter(pl.col(name).str.contains(NESTED)).select(ROW, name).head(1).collect(engine="streaming")
    if found.height:
        row, value = found.row(0)
        hint = "; a row is one event, so a list of items is a row for each" if name == ITEM_ID else ""
        raise RecsysLabError(
            f"{where}: column {column!r} holds JSON objects or lists, first in row {row + 1}: {value[:80]!r}. "
            f"Plain text or whole numbers are wanted{hint}"
        )


def whole_numbers(value: pl.Expr) -> pl.Expr:
    """Text that is `WHOLE` as numbers, other text as null."""
    return pl.when(value.str.contains(WHOLE)).then(value.str.replace(r"\.0+$", "")).cast(pl.Int64, strict=False)


def is_null_word(value: pl.Expr) -> pl.Expr:
    return value.str.strip_chars().str.to_lowercase().is_in([word.lower() for word in NULL_WORDS])


class Ids:
    """A column of ids: whole numbers stay numbers (so that they sort as such), anything else is text.

    Args:
        name: `user_id` or `item_id`.
        column: Its name in the file, for messages.
        dtype: Its type as it was read.
        where: The file, for messages.

    Raises:
        RecsysLabError: for a type that can't be an id.
    """

    def __init__(self, name: str, column: str, dtype: pl.DataType, where: str) -> None:
        self.name, self.column, self.dtype, self.where = name, column, dtype, where
        self.value, self.number = pl.col(name), pl.col(name + NUMBER)
        self.is_decimal = isinstance(dtype, pl.Decimal) and dtype.scale == 0
        if dtype in (pl.Categorical, pl.Enum, pl.Boolean):
            self.dtype, self.value = pl.String(), self.value.cast(pl.String)
        elif self.is_decimal:
            self.dtype, self.value = pl.Int128(), self.value.cast(pl.Int128)
        elif not (dtype == pl.String or dtype.is_integer() or dtype.is_float() or dtype == pl.Null):
            raise RecsysLabError(f"{where}: column {column!r} is of type {dtype}; ids are whole numbers or text")

    @property
    def is_text(self) -> bool:
        return self.dtype == pl.String

    def is_missing(self, or_word: bool = False) -> pl.Expr:
        """Rows without an id; with `or_word` also those with a word that stands for none."""
        missing = self.value.is_null()
        if self.is_text:
            return missing | (is_null_word(self.value) if or_word else self.value.str.strip_chars() == "")
        return missing | self.value.is_nan() if self.dtype.is_float() else missing

    def stats(self) -> dict[str, pl.Expr]:
        missing = self.is_missing().sum()
        if self.is_text:
            # "007" and "7" are two ids: a number only counts as one if it is written the way it is printed
            whole = self.number.cast(pl.String) == self.value
            nested = may_be_nested(self.value).sum()
            return {"missing": missing, "whole": whole.sum(), "rows": pl.len(), "nested": nested}
        if self.dtype.is_float():
            size, exact = self.value.abs(), 2**24 if self.dtype == pl.Float32 else 2**53
            return {
                "missing": missing,
                "whole": (self.value % 1 == 0).sum(),
                "rows": pl.len(),
                "inexact": (size >= exact).sum(),
                "huge": (size >= 2.0**63).sum(),
            }
        return {"missing": missing, "whole": self.value.count(), "rows": pl.len()}

    def convert(self, found: dict[str, int], table: pl.LazyFrame) -> pl.Expr:
        """The ids, given what `stats` found in `table`.

        Raises:
            RecsysLabError: for missing ids and fractions, naming the first row.
        """
        if found["missing"]:
            row = table.filter(self.is_missing()).select(ROW).head(1).collect().item()
            some = found["missing"] < found["rows"]
            leave = f"leave those rows out ({option('missing_ids', 'drop')}), or " if some else ""
            raise RecsysLabError(
                f"{self.where}: column {self.column!r} has {number_of(found['missing'], 'missing id')} in "
                f"{number_of(found['rows'], 'row')}, "
                f"first in row {row + 1}; {leave}name another column ({column_option(self.name)})"
            )
        if self.is_text:
            if found["whole"] == found["rows"]:
                return self.number
            if found["nested"]:
                refuse_nested(table, self.name, self.column, self.where)
            if self._are_floats(table):
                log.info("%s: column %r has ids like 1.0; read as whole numbers", self.where, self.column)
                return whole_numbers(self.value)
            if found["whole"]:
                log.info("%s: column %r mixes numbers and text, so all its ids are text", self.where, self.column)
            return self.value
        if self.dtype.is_float():
            if found["whole"] != found["rows"]:
                row, value = table.filter(self.value % 1 != 0).select(ROW, self.name).head(1).collect().row(0)
                raise RecsysLabError(
                    f"{self.where}: column {self.column!r} has fractions, first in row {row + 1}: {value!r}; ids are "
                    "whole numbers or text"
                )
            if found["huge"]:
                raise RecsysLabError(
                    f"{self.where}: column {self.column!r} has {found['huge']:,} floats above 2^63; write ids as whole "
                    "numbers or text"
                )
            if found["inexact"]:
                log.warning(
                    "%s: column %r has %s ids as large floats, where neighbouring whole numbers can't be told apart: "
                    "ids may have been merged. Write them as whole numbers or text",
                    self.where, self.column, f"{found['inexact']:,}",
                )  # fmt: skip
            return self.value.cast(pl.Int64)
        if self.is_decimal:
            ends = asks.row(table.select(self.value.min().alias("low"), self.value.max().alias("high")))
            low, high = ends["low"], ends["high"]
            return self.value.cast(pl.Int64) if low >= -(2**63) and high < 2**63 else self.value
        return self.value if self.dtype in (pl.UInt64, pl.Int128) else self.value.cast(pl.Int64)

    def _are_floats(self, table: pl.LazyFrame) -> bool:
        """Whether all ids are whole numbers written as floats. The first mostly tells."""
        is_float = self.value.str.contains(FLOATS).alias("float")
        return bool(asks.head(table.select(is_float), 1).item() and asks.row(table.select(is_float.all()))["float"])
