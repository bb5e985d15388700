"""Stored values and what was fitted on them -> the columns that batches gather from; tensors over the catalogue."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

from recsys_lab.data.batches.field_columns import (
    CategoricalColumn,
    FieldColumn,
    MultiColumn,
    NumericColumn,
    VectorColumn,
)
from recsys_lab.data.fitting.fitted_fields import FittedField, FittedFields
from recsys_lab.data.fitting.stored_values import FieldValues, values_of


def item_tensors(data: Any, fitted: FittedFields, train_stop: np.ndarray) -> dict[str, torch.Tensor]:
    """(V, ...) of each field of the items, by name, as `contracts.Field` says; row 0 is padding."""
    row = np.arange(data.num_items + 1)
    columns = field_columns(data, fitted.of("item"), train_stop)
    return {name: column.take(np.maximum(row - 1, 0), row > 0) for name, column in columns.items()}


def field_columns(data: Any, fitted: Iterable[FittedField], train_stop: np.ndarray) -> dict[str, FieldColumn]:
    """What batches gather from, by name; the arrays stay mapped.

    Args:
        data: `ProcessedDataset`.
        train_stop: (U,) int64 of the split.
    """
    return {one.name: _column(data, one, values_of(data, one.key, train_stop)) for one in fitted}


def _column(data: Any, fitted: FittedField, values: FieldValues) -> FieldColumn:
    if fitted.kind == "numeric":
        return NumericColumn(values.array, fitted.mean, fitted.std)
    if fitted.kind == "vector":
        return VectorColumn(values.array)
    table_row = fitted.table_row(data.field_values(fitted.key))
    if values.offsets is not None:
        return MultiColumn(values.array, values.offsets, table_row, data.fields[fitted.key].width)
    return CategoricalColumn(values.array, table_row)
