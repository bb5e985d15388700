"""Values -> codes: 0 = missing, value v from 1 in ascending order of the values."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

import numpy as np
import polars as pl

from recsys_lab.data.fields.kinds import Column
from recsys_lab.data.fields.stored import smallest_unsigned

UNSIGNED = {"uint8": pl.UInt8, "uint16": pl.UInt16, "uint32": pl.UInt32}


def distinct(table: pl.LazyFrame, column: Column, name: str) -> pl.LazyFrame:
    """The query for the values of a categorical or multi column `name`: one column `value`, any order."""
    values = column.physical(name)
    if column.kind == "multi":
        values = values.explode()
    return table.select(values.alias("value")).drop_nulls().unique()


class Coding:
    """The values of one field, ascending, and expressions that turn them into codes.

    Args:
        values: (n,) unique, in any order, without null.
    """

    def __init__(self, values: pl.Series) -> None:
        self.values = values.sort()
        self.dtype = UNSIGNED[smallest_unsigned(len(values))]

    def codes(self, column: Column, name: str) -> pl.Expr:
        """The codes of `column`, which is named `name` in the table: a number for each row, or a list of them."""
        if column.kind == "multi":
            return column.physical(name).list.eval(self._code(pl.element()))
        return self._code(column.physical(name)).fill_null(0)

    def _code(self, value: pl.Expr) -> pl.Expr:
        # an Enum looks a value up without a join, so that rows stay in their order
        known = pl.Enum(self.values.cast(pl.String))
        return (value.cast(pl.String).cast(known).to_physical().cast(pl.UInt32) + 1).cast(self.dtype)


def code_counts(codes: Iterable[np.ndarray], num_values: int) -> np.ndarray:
    """(num_values + 1,) int64: how often each code occurs; [0] is missing."""
    counts = np.zeros(num_values + 1, dtype=np.int64)
    for part in codes:
        counts += np.bincount(part, minlength=num_values + 1)
    return counts


def dense(counts: np.ndarray) -> np.ndarray:
    """(num_values + 1,) counts of codes -> (num_values + 1,) new codes without gaps: values that don't occur are 0."""
    occurs = counts > 0
    occurs[0] = False
    new: np.ndarray = np.where(occurs, np.cumsum(occurs), 0).astype(smallest_unsigned(int(occurs.sum())))
    return new


def values_digest(parts: Iterable[pl.Series]) -> str:
    """sha256 (hex) of values as a JSON list, a part at a time: the same in every version of polars."""
    digest, between = hashlib.sha256(b"["), b""
    for series in parts:
        for part in series.to_frame().iter_slices(1 << 18):
            digest.update(between + json.dumps(part.to_series().to_list()).encode()[1:-1])
            between = b", " if part.height else between
    digest.update(b"]")
    return digest.hexdigest()
