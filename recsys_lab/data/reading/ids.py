"""Columns of ids: whole numbers stay numbers, anything else is text; and the words that stand for a missing id."""

from __future__ import annotations

import logging

import polars as pl

from recsys_lab.data.reading.columns import column_option
from recsys_lab.data.reading.spelling import option
from recsys_lab.data.reading.times import NUMBER, ROW
from recsys_lab.words import RecsysLabError

log = logging.getLogger(__name__)

NULL_WORDS = ("", "\\N", "n/a", "na", "nan", "nil", "none", "null", "<na>", "#n/a", "undefined", "unknown")
"""In lower case. They are ids like any others (NA may be Namibia), but whoever has them should know."""


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
        if dtype in (pl.Categorical, pl.Enum, pl.Boolean):
            self.dtype, self.value = pl.String(), self.value.cast(pl.String)
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
            return {"missing": missing, "whole": whole.sum(), "rows": pl.len()}
        if self.dtype.is_float():
            return {"missing": missing, "whole": (self.value % 1 == 0).sum(), "rows": pl.len()}
        return {"missing": missing, "whole": self.value.count(), "rows": pl.len()}

    def convert(self, found: dict[str, int], table: pl.LazyFrame) -> pl.Expr:
        """The ids, given what `stats` found in `table`.

        Raises:
            RecsysLabError: for missing ids and fractions, naming the first row.
        """
        if found["missing"]:
            row = table.filter(self.is_missing()).select(ROW).head(1).collect().item()
            raise RecsysLabError(
                f"{self.where}: column {self.column!r} has {found['missing']:,} missing ids in {found['rows']:,} rows, "
                f"first in row {row + 1}; leave those rows out ({option('missing_ids', 'drop')}), or name another "
                f"column ({column_option(self.name)})"
            )
        if self.is_text:
            if found["whole"] == found["rows"]:
                return self.number
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
            return self.value.cast(pl.Int64)
        return self.value if self.dtype in (pl.UInt64, pl.Int128) else self.value.cast(pl.Int64)
