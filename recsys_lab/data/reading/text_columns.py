"""Further columns of text files: numbers, lists or text? Decided on the whole column, as ids and times are."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import polars as pl

from recsys_lab.data.reading import asks
from recsys_lab.data.reading.ids import is_null_word

SAMPLE = 1000
"""Lists that are looked at for the type of what they hold."""
AT_ONCE = 50
"""Columns that are looked at in one pass."""
LEADING_ZERO = r"^[+-]?0\d"


class TextColumn:
    """A column of text that may hold numbers ("NA" and its like are then missing) or JSON lists.

    Text with leading zeros is no number: `007` and `7` are two.

    Args:
        name: of the column.
    """

    def __init__(self, name: str) -> None:
        self.name, text = name, pl.col(name).str.strip_chars()
        self.text = pl.when(text != "").then(text)

    def stats(self) -> dict[str, pl.Expr]:
        number, whole = self.text.cast(pl.Float64, strict=False), self.text.cast(pl.Int64, strict=False)
        return {
            "known": self.text.count(),
            "words": is_null_word(self.text).sum(),
            "numbers": (number.is_finite() & ~self.text.str.contains(LEADING_ZERO)).sum(),
            "whole": (whole.cast(pl.String) == self.text).sum(),
            "objects": (self.text.str.starts_with("{") & self.text.str.ends_with("}")).sum(),
            "lists": (self.text.str.starts_with("[") & self.text.str.ends_with("]")).sum(),
        }

    def convert(self, found: dict[str, int], table: pl.LazyFrame) -> pl.Expr:
        """The column as integers, floats, lists or text, given what `stats` found in `table`."""
        known, words = found["known"], found["words"]
        if found["whole"] and found["whole"] + words == known:
            return self.text.cast(pl.Int64, strict=False)
        if found["numbers"] and found["numbers"] + words == known:
            number = self.text.cast(pl.Float64, strict=False)
            return pl.when(number.is_finite()).then(number)
        if found["lists"] and found["lists"] == known:
            inner = self._inner(table)
            return self.text if inner is None else self.text.str.json_decode(pl.List(inner))
        return self.text

    def _inner(self, table: pl.LazyFrame) -> Any:
        """What the lists hold; None where they are no JSON lists of plain values."""
        seen: set[type] = set()
        start = asks.head(table.select(self.text.drop_nulls()), SAMPLE)
        for text in start.to_series():
            try:
                seen |= {type(value) for value in json.loads(text) if value is not None}
            except (ValueError, TypeError, RecursionError):
                return None
        if seen & {list, dict}:
            return None
        if seen == {int}:
            return pl.Int64()
        return pl.Float64() if seen and seen <= {int, float} else pl.String()


def text_stats(table: pl.LazyFrame, columns: Iterable[TextColumn]) -> dict[str, Any]:
    """`name.what` -> what `TextColumn.stats` finds; one pass for every 50 columns: plans of thousands take minutes."""
    columns, found = list(columns), dict[str, Any]()
    for first in range(0, len(columns), AT_ONCE):
        some = columns[first : first + AT_ONCE]
        stats = {f"{column.name}.{what}": expr for column in some for what, expr in column.stats().items()}
        found |= asks.row(table.select(**stats))
    return found


def typed(table: pl.LazyFrame, among: list[str]) -> pl.LazyFrame:
    """A table of text with its columns `among` as what they hold."""
    columns = [TextColumn(name) for name in among]
    row = text_stats(table, columns)
    return table.with_columns(
        column.convert({what: row[f"{column.name}.{what}"] for what in column.stats()}, table).alias(column.name)
        for column in columns
    )
