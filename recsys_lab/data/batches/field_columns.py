"""FieldColumn: the stored values of a field -> what a batch holds of them (`contracts.Field` has the forms)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol

import numpy as np
import torch


def view(column: Any) -> Any:
    """A memory map as the array that it is, without copying; a column in shards as it is: `np.asarray` reads it all."""
    return column if getattr(column, "is_sharded", False) else np.asarray(column)


class FieldColumn(Protocol):
    """One field of events, users or items, with what was fitted on the training part."""

    def take(self, index: np.ndarray, is_real: np.ndarray) -> torch.Tensor:
        """The field at some rows of the data.

        Args:
            index: (...) int64 rows: positions of events, users or items.
            is_real: (...) bool: False at padding, where the result is 0.

        Returns:
            (..., *) as the kind of the field has it.
        """
        ...


class CategoricalColumn:
    """Codes -> rows of an embedding table.

    Args:
        codes: (R,) integers: 0 = missing, values from 1.
        table_row: (number of values + 1,) int64: the row of each code; 0 for a value that the training part lacks.
    """

    def __init__(self, codes: np.ndarray, table_row: np.ndarray) -> None:
        self.codes, self.table_row = view(codes), table_row

    def take(self, index: np.ndarray, is_real: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(self.table_row[self.codes[index]] * is_real)


class MultiColumn:
    """Several codes -> as many rows of an embedding table, first those that the training part has, then 0.

    Args:
        codes: (N,) integers, those of a row of the data back to back: values from 1.
        offsets: (R + 1,) int64: row r has those from `offsets[r]` to `offsets[r + 1]`; without any it is missing.
        table_row: as for `CategoricalColumn`.
        width: the most codes of a row.
    """

    def __init__(self, codes: np.ndarray, offsets: np.ndarray, table_row: np.ndarray, width: int) -> None:
        self.codes, self.offsets, self.table_row, self.width = np.asarray(codes), np.asarray(offsets), table_row, width
        self._some_unknown = not table_row[1:].all()

    def take(self, index: np.ndarray, is_real: np.ndarray) -> torch.Tensor:
        start, stop = self.offsets[index], self.offsets[np.asarray(index) + 1]
        place = start[..., None] + np.arange(self.width)  # (..., width)
        held = (place < stop[..., None]) & is_real[..., None]
        last = max(len(self.codes) - 1, 0)
        codes = self.codes[np.minimum(place, last)] if len(self.codes) else np.zeros(place.shape, dtype=np.int64)
        rows = self.table_row[codes] * held
        if self._some_unknown:
            rows = np.take_along_axis(rows, np.argsort(rows == 0, axis=-1, kind="stable"), axis=-1)
        rows[..., 0] += (stop == start) & is_real  # row 1: missing
        return torch.from_numpy(rows)


NumericScale = Literal["standard", "log1p", "quantile"]
Knots = Sequence[tuple[float, float]]
"""Values and the share of the training part that lies below each: both ascending."""


def rescaled(values: np.ndarray, scale: NumericScale, knots: Knots = ()) -> np.ndarray:
    """Numbers before they are standardised, float; NaN stays.

    Args:
        scale: `standard`: as they are; `log1p`: sign(x) log(1 + |x|); `quantile`: the share of the training part that
            lies below, by straight lines between `knots`.
    """
    if scale == "log1p":
        return np.sign(values) * np.log1p(np.abs(values))
    if scale == "quantile" and len(knots):
        at, share = np.array(knots, dtype=np.float64).T
        return np.interp(values, at, share).astype(np.float32)
    return values


class NumericColumn:
    """Numbers -> the standardised number, and 1.0 where there is none.

    Args:
        values: (R,) float32, NaN = missing.
        mean, std: of the training part, rescaled.
        scale, knots: see `rescaled`.
    """

    def __init__(
        self, values: np.ndarray, mean: float, std: float, scale: NumericScale = "standard", knots: Knots = ()
    ) -> None:
        self.values, self.mean, self.std = view(values), np.float32(mean), np.float32(std)
        self.scale, self.knots = scale, knots

    def take(self, index: np.ndarray, is_real: np.ndarray) -> torch.Tensor:
        value = (rescaled(self.values[index], self.scale, self.knots) - self.mean) / self.std  # (...)
        missing = np.isnan(value)
        pair = np.stack([np.where(missing, np.float32(0), value), missing], axis=-1).astype(np.float32, copy=False)
        return torch.from_numpy(pair * is_real[..., None])


class VectorColumn:
    """Vectors as they are; a missing one, all NaN, becomes zeros. vectors: (R, D) float."""

    def __init__(self, vectors: np.ndarray) -> None:
        self.vectors = np.asarray(vectors)

    def take(self, index: np.ndarray, is_real: np.ndarray) -> torch.Tensor:
        vector = self.vectors[index].astype(np.float32, copy=False)
        return torch.from_numpy(np.where(np.isnan(vector) | ~is_real[..., None], np.float32(0), vector))
