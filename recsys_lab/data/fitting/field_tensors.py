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


def item_tensors(data: Any, fitted: FittedFields) -> dict[str, torch.Tensor]:
    """(V, ...) of each field of the items, by name, as `contracts.Field` says; row 0 is padding."""
    row = np.arange(data.num_items + 1)
    columns = field_columns(data, fitted.of("item"))
    return {name: column.take(np.maximum(row - 1, 0), row > 0) for name, column in columns.items()}


def field_columns(data: Any, fitted: Iterable[FittedField]) -> dict[str, FieldColumn]:
    """What batches gather from, by name; the arrays stay mapped."""
    return {one.name: _column(data, one) for one in fitted}


def _column(data: Any, fitted: FittedField) -> FieldColumn:
    key = fitted.key
    array = data.field_array(key)
    if fitted.kind == "numeric":
        return NumericColumn(array, fitted.mean, fitted.std)
    if fitted.kind == "vector":
        return VectorColumn(array)
    table_row = fitted.table_row(data.field_values(key))
    if fitted.kind == "multi":
        return MultiColumn(array, data.field_offsets(key), table_row, data.fields[key].width)
    return CategoricalColumn(array, table_row)
