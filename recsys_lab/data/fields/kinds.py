"""Which kind of field a column is: by its type and what it holds, or as the user says."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from recsys_lab.data.fields.stored import Kind, Scope, field_key
from recsys_lab.data.fields.wishes import Wish
from recsys_lab.data.reading.iso_times import iso_microseconds
from recsys_lab.data.reading.spelling import again, option
from recsys_lab.words import RecsysLabError, number_of_these

log = logging.getLogger("recsys_lab")

FEW_NUMBERS = 1_000
"""Whole numbers with at most so many different values are categories, if each occurs twice on average."""
ID_WORDS = ("id", "code", "type", "class", "category", "group")
"""A column of whole numbers whose name ends in one of these holds categories, however many."""
MICROSECONDS_OF_DAY = 86_400_000_000
SCALARS = (pl.Boolean, pl.Categorical, pl.Enum, pl.String, pl.Decimal, pl.Date, pl.Datetime, pl.Duration, pl.Time)


@dataclass(frozen=True)
class Column:
    """A column that becomes a field.

    Attributes:
        name: as the user has it.
        table: whose table it is a column of: event, item, user or shown.
        scope: of the field: for a column of events also item or user.
        kind: how it is stored.
        dtype: as it was read.
        width: D of a vector.
        wish: what the user said of it.
    """

    name: str
    table: Scope
    scope: Scope
    kind: Kind
    dtype: pl.DataType
    width: int = 1
    wish: Wish = Wish()

    @property
    def key(self) -> str:
        return field_key(self.scope, self.name)

    def physical(self, column: str) -> pl.Expr:
        """The column `column` as it is stored, but for the codes: values (Int64, Float64 or String), lists of them,
        Float32, Array(Float32, width) or String; null where it is missing."""
        raw = pl.col(column)
        if self.kind == "categorical":
            return as_value(raw, self.dtype)
        if self.kind == "text":
            return _not_empty(raw.cast(pl.String))
        if self.kind == "numeric":
            number = as_number(raw, self.dtype)
            return pl.when(number.is_finite()).then(number).cast(pl.Float32)
        if self.kind == "multi":
            return as_lists(raw, self.dtype)
        rows = _vectors(raw, self.dtype).list.to_array(self.width)
        return pl.when(rows.arr.eval(pl.element().is_finite().fill_null(False)).arr.all()).then(rows)


def as_value(raw: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """Values of a category: whole numbers as Int64, other numbers as Float64, everything else as text."""
    if dtype.is_float():
        number = raw.cast(pl.Float64)
        return pl.when(number.is_not_nan()).then(number)
    if dtype.is_integer() and dtype not in (pl.UInt64, pl.Int128, pl.UInt128):
        return raw.cast(pl.Int64)
    return _not_empty(raw.cast(pl.String))


def as_number(raw: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """Float64: days since 1970 for dates, also as ISO 8601 text; seconds for durations and times of day; null for text
    that is neither a number nor a date."""
    if dtype in (pl.Date, pl.Datetime):
        return raw.cast(pl.Datetime("us")).dt.epoch("us") / MICROSECONDS_OF_DAY
    if dtype == pl.Duration:
        return raw.dt.total_microseconds() / 1_000_000
    if dtype == pl.Time:
        return raw.cast(pl.Int64) / 1_000_000_000
    if dtype in (pl.Categorical, pl.Enum):
        raw, dtype = raw.cast(pl.String), pl.String()
    number = raw.cast(pl.Float64, strict=False)
    return number.fill_null(iso_microseconds(raw, rare=True) / MICROSECONDS_OF_DAY) if dtype == pl.String else number


def as_lists(raw: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """Lists of values without nulls, null where there are none; text is a JSON list, or parts between bars: `a|b`."""
    if isinstance(dtype, pl.Array):
        raw, dtype = raw.arr.to_list(), pl.List(dtype.inner)
    if isinstance(dtype, pl.List):
        assert isinstance(dtype.inner, pl.DataType)
        lists = raw.list.eval(as_value(pl.element(), dtype.inner).drop_nulls())
    else:
        text = raw.cast(pl.String)
        parts = text.str.strip_chars("[] ").str.replace_all(r'"', "").str.replace_all(r",\s*", "|")
        parts = pl.when(text.str.starts_with("[")).then(parts).otherwise(text).str.split("|")
        lists = parts.list.eval(_not_empty(pl.element().str.strip_chars()).drop_nulls())
    return pl.when(lists.list.len() > 0).then(lists)


def _vectors(raw: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """List(Float32); text is numbers between commas, bars or white space."""
    if isinstance(dtype, pl.Array):
        return raw.arr.to_list().cast(pl.List(pl.Float32))
    if isinstance(dtype, pl.List):
        return raw.cast(pl.List(pl.Float32))
    numbers = raw.cast(pl.String).str.extract_all(r"[^\s,;|\[\]]+")
    lists = numbers.list.eval(pl.element().cast(pl.Float32, strict=False))
    return pl.when(lists.list.len() > 0).then(lists)


def _not_empty(text: pl.Expr) -> pl.Expr:
    return pl.when(text != "").then(text)


class ColumnStats:
    """What must be known of a column before its kind is: one aggregation over the whole table.

    Args:
        column: its name in the table that is read.
        dtype: its type.
        wish: what the user says of it.
    """

    def __init__(self, column: str, dtype: pl.DataType, wish: Wish) -> None:
        self.column, self.dtype, self.wish = column, dtype, wish
        self.inner = dtype.inner if isinstance(dtype, pl.List | pl.Array) else None

    @property
    def refused(self) -> str:
        """Why this type can be no field; empty where it can."""
        if self.dtype == pl.Null:
            return "has no value in any row"
        plain = self.inner if self.inner is not None else self.dtype
        if isinstance(plain, pl.DataType) and (plain.is_numeric() or plain in SCALARS):
            return ""
        return f"is of type {self.dtype}: a field holds plain values, or lists of them"

    def exprs(self) -> dict[str, pl.Expr]:
        raw = pl.col(self.column)
        found = {"rows": pl.len(), "known": raw.count()}
        if self.wish.kind == "vector" or (self.inner is not None and self.wish.kind is None):
            lengths = (_vectors(raw, self.dtype) if self.wish.kind else self._lists(raw)).list.len()
            found |= {"shortest": lengths.min(), "longest": lengths.max()}
            if self.wish.kind and self.inner is None:
                numbers = _vectors(raw, self.dtype)
                found["no number"] = numbers.list.eval(pl.element().is_null()).list.any().sum()
        elif self.dtype == pl.String or self.dtype.is_integer():
            found["values"] = raw.drop_nulls().approx_n_unique()
        if self.wish.kind == "multi" and self.dtype == pl.String:
            found["apart"] = (raw.str.contains("|", literal=True) | raw.str.starts_with("[")).sum()
            found["other signs"] = raw.str.contains("[;,]").sum()
        if self.wish.kind == "numeric" and self.inner is None:
            found["no number"] = (as_number(raw, self.dtype).is_null() & raw.is_not_null()).sum()
            if self.dtype == pl.String:
                found["numbers"] = raw.cast(pl.Float64, strict=False).count()
        return found

    def _lists(self, raw: pl.Expr) -> pl.Expr:
        return raw.arr.to_list() if isinstance(self.dtype, pl.Array) else raw

    def column_of(self, name: str, table: Scope, found: Mapping[str, Any], source: str) -> Column | None:
        """The field that the column becomes; None where it is left out, which is said.

        Raises:
            RecsysLabError: where the column can't be what the user says.
        """
        scope = self.wish.scope or table
        shown = f"{source!r}: the column {name!r} of the {table}s" if table != "shown" else f"{source!r}: {name!r}"
        why = self.refused or ("" if found["known"] else "has no value in any row")
        kind: Kind | None = None
        if not why:
            kind = self.wish.kind or self._inferred(name, found)
            why = self._fault(kind, found)
        if not why and kind is not None:
            width = found["longest"] if kind == "vector" else 1
            return Column(name, table, scope, kind, self.dtype, int(width), self.wish)
        if self.wish.kind is not None:
            raise RecsysLabError(f"{shown} {why}; {option('fields')} says {self.wish.text!r}")
        drop = again(option("fields", f"{name}=drop"))
        log.warning("%s %s, so it is left out (without this line: %s)", shown, why, drop)
        return None

    def _inferred(self, name: str, found: Mapping[str, Any]) -> Kind:
        dtype = self.dtype
        if self.inner is not None:
            return "vector" if isinstance(self.inner, pl.DataType) and self.inner.is_float() else "multi"
        if dtype in (pl.Boolean, pl.Categorical, pl.Enum):
            return "categorical"
        twice = 2 * found.get("values", 0) <= found["known"]
        if dtype == pl.String:
            return "categorical" if twice or found["values"] <= 2 else "text"
        if dtype.is_integer():
            is_id = name.lower().replace("-", "_").split("_")[-1] in ID_WORDS or name.endswith(("Id", "ID", "Code"))
            few = found["values"] <= FEW_NUMBERS and (twice or found["values"] <= 2)
            return "categorical" if few or is_id else "numeric"
        return "numeric"

    def _fault(self, kind: Kind, found: Mapping[str, Any]) -> str:
        """Why the column can't be of this kind."""
        is_list = self.inner is not None
        if kind in ("categorical", "numeric", "text") and is_list:
            return f"holds lists ({self.dtype}), so it can't be {kind}: multi or vector can hold them"
        if kind == "vector":
            plain = self.inner if is_list else self.dtype
            if not (isinstance(plain, pl.DataType) and (plain.is_numeric() or (plain == pl.String and not is_list))):
                return f"is of type {self.dtype}, so it can't be a vector, which is a list of numbers"
            if found["longest"] != found["shortest"] or not found["longest"]:
                return f"has lists of {found['shortest']} to {found['longest']} numbers; vectors are all of one length"
            if found.get("no number"):
                return f"has {found['no number']:,} values with what is no number, so it can't be a vector"
        if kind == "multi" and found.get("other signs") and not found["apart"]:
            signs = number_of_these(found["other signs"], "values")
            return f"has commas or semicolons in {signs} and bars in none; multi wants text like a|b, or JSON lists"
        if kind == "multi" and not is_list and self.dtype != pl.String:
            return f"is of type {self.dtype}, so it can't be multi: that is a list of values, or text like a|b"
        if kind == "numeric" and found.get("no number"):
            return f"has {found['no number']:,} values that are no numbers, so it can't be numeric"
        if kind == "numeric" and 0 < found.get("numbers", 0) < found["known"]:
            return f"has {found['numbers']:,} numbers among dates; a field is one or the other"
        return ""
