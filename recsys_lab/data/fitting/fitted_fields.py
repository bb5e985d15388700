"""FittedFields: what is known of the fields from the training part alone. One hashed artefact, for run folder and
checkpoint, so that whoever predicts later turns values into tensors as training did."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
import torch

from recsys_lab.batch import FIRST_VALUE, Field, Kind, KnownAt, Label, Scope
from recsys_lab.data.batches.field_columns import (
    CategoricalColumn,
    FieldColumn,
    MultiColumn,
    NumericColumn,
    NumericScale,
    VectorColumn,
)
from recsys_lab.data.fitting.packed_values import digest, pack, unpack
from recsys_lab.words import RecsysLabError

MISSING = 1
"""Row of an embedding table: 0 is padding and what the training part lacks."""


@dataclass(frozen=True, eq=False)
class FittedField:
    """One field.

    `values` are those that the training part has, in the order of their rows from row 2; `mean` and `std` are those of
    its numbers. What a kind doesn't have stays as it is here.
    """

    name: str
    scope: Scope
    kind: Kind
    known_at: KnownAt = "before"
    values: pl.Series = field(default_factory=lambda: pl.Series(dtype=pl.String))
    mean: float = 0.0
    std: float = 1.0
    dimension: int = 1  # of a vector
    width: int = 1  # the most values of one row, where a row has several
    scale: NumericScale = "standard"
    knots: tuple[tuple[float, float], ...] = ()  # of the scale `quantile`: see `field_columns.rescaled`

    @property
    def key(self) -> str:
        """The name among fields of all scopes: `price` of an event, `item.price` of an item."""
        return self.name if self.scope == "event" else f"{self.scope}.{self.name}"

    @property
    def is_coded(self) -> bool:
        return self.kind in ("categorical", "multi")

    @property
    def raw_dtype(self) -> pl.DataType:
        """Of raw values as a column."""
        if self.is_coded:
            return pl.List(self.values.dtype) if self.kind == "multi" else self.values.dtype
        return pl.List(pl.Float32) if self.kind == "vector" else pl.Float32()

    def as_field(self) -> Field:
        """What a model is told."""
        size = len(self.values) + FIRST_VALUE if self.is_coded else self.dimension
        return Field(self.name, self.scope, self.kind, size, self.width, self.known_at)

    def as_label(self) -> Label:
        """What a task is told that predicts it."""
        values = tuple(self.values.cast(pl.String)) if self.is_coded else ()
        return Label(**vars(self.as_field()), values=values, mean=self.mean, std=self.std)

    def rows(self, values: pl.Series) -> np.ndarray:
        """(N,) raw values -> (N,) int64 rows of an embedding table."""
        known, asked = self.values.rename("value"), values.rename("value")
        if known.dtype != asked.dtype:
            known, asked = known.cast(pl.String), asked.cast(pl.String)
        table = known.to_frame().with_row_index("row", offset=FIRST_VALUE)
        found = asked.to_frame().join(table, on="value", how="left", maintain_order="left")
        row = pl.when(pl.col("value").is_null()).then(MISSING).otherwise(pl.col("row").fill_null(0))
        return found.select(row.cast(pl.Int64)).to_series().to_numpy().copy()

    def table_row(self, values: pl.Series) -> np.ndarray:
        """The values of codes 1, 2, .. of a data set -> the row of each code, of 0 (missing) first."""
        return np.concatenate([[MISSING], self.rows(values)]).astype(np.int64)

    def tensor(self, values: pl.Series) -> torch.Tensor:
        """(N,) raw values, as a caller has them -> (N, ...) as `contracts.Field` says.

        Args:
            values: of `multi` and `vector` fields lists.

        Raises:
            RecsysLabError: for what can't be a value of this field, naming it.
        """
        column = self.column_of(values)
        return column.take(np.arange(len(values)), np.ones(len(values), dtype=bool))

    def column_of(self, values: pl.Series) -> FieldColumn:
        """(N,) raw values -> what batches gather from; see `tensor`."""
        try:
            if self.kind == "categorical":
                rows = np.concatenate([[0], self.rows(values)])
                return CategoricalColumn(np.arange(1, len(rows)), rows)
            if self.kind == "multi":
                flat = values.explode(empty_as_null=False, keep_nulls=False)
                lengths = values.list.len().fill_null(0).cast(pl.Int64).to_numpy()
                rows = np.concatenate([[0], self.rows(flat)])
                return MultiColumn(
                    np.arange(1, len(rows)), np.append(0, lengths.cumsum()), rows, max(1, lengths.max(initial=0))
                )
            if self.kind == "numeric":
                numbers = values.cast(pl.Float32).fill_null(float("nan")).to_numpy()
                return NumericColumn(numbers, self.mean, self.std, self.scale, self.knots)
            empty = [0.0] * self.dimension
            vectors = np.array([empty if v is None else v for v in values.to_list()], dtype=np.float32)
            return VectorColumn(vectors.reshape(-1, self.dimension))
        except (pl.exceptions.PolarsError, ValueError, TypeError) as error:
            why = str(error).splitlines()[0]
            raise RecsysLabError(f"these can't be values of the {self.kind} field {self.key!r}: {why}") from error

    def as_dict(self) -> dict[str, Any]:
        """Plain data and tensors."""
        own = {name: value for name, value in vars(self).items() if name != "values"}
        return own | ({"values": pack(self.values)} if self.is_coded else {})

    @classmethod
    def from_dict(cls, held: dict[str, Any]) -> FittedField:
        return cls(**{**held, "values": unpack(held["values"])} if "values" in held else held)


@dataclass(frozen=True, eq=False)
class FittedFields:
    """Those that a model is fed, in the order of the setting."""

    each: tuple[FittedField, ...] = ()

    def __iter__(self) -> Iterator[FittedField]:
        return iter(self.each)

    def __len__(self) -> int:
        return len(self.each)

    def __getitem__(self, key: str) -> FittedField:
        return next(one for one in self.each if one.key == key)

    def of(self, scope: Scope) -> list[FittedField]:
        return [one for one in self.each if one.scope == scope]

    @property
    def fields(self) -> tuple[Field, ...]:
        return tuple(one.as_field() for one in self.each)

    @cached_property
    def hash(self) -> str:
        """16 hex digits, from raw values and not from codes: two data sets that share it give equal tensors."""
        plain = []
        for one in self.each:
            unused = {"values", *([] if one.knots or one.scale != "standard" else ["scale", "knots"])}
            own = {name: value for name, value in vars(one).items() if name not in unused}
            plain.append([own, digest(one.values) if one.is_coded else ""])
        return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]

    def as_dict(self) -> dict[str, Any]:
        """Plain data and tensors, which `torch.load(..., weights_only=True)` reads."""
        return {"fields": [one.as_dict() for one in self.each], "hash": self.hash}

    @classmethod
    def from_dict(cls, held: dict[str, Any]) -> FittedFields:
        """The inverse of `as_dict`.

        Raises:
            RecsysLabError: when it is not what was written.
        """
        found = cls(tuple(FittedField.from_dict(one) for one in held["fields"]))
        if found.hash != held["hash"]:
            raise RecsysLabError(
                f"the fitted fields are damaged: their hash is {found.hash}, and {held['hash']} was written"
            )
        return found


NO_FIELDS = FittedFields()
