"""Stored values and what was fitted on them -> the columns that batches gather from; tensors over the catalogue."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

from recsys_lab.data.batches.event_rules import Rules
from recsys_lab.data.batches.field_columns import (
    CategoricalColumn,
    FieldColumn,
    MultiColumn,
    NumericColumn,
    VectorColumn,
)
from recsys_lab.data.batches.gather import Events
from recsys_lab.data.batches.shown_dataset import Shown, ShownDataset
from recsys_lab.data.fitting.fitted_fields import NO_FIELDS, FittedField, FittedFields
from recsys_lab.data.fitting.stored_values import FieldValues, training_impressions, values_of
from recsys_lab.data.sessions import SAME_SESSION, same_session
from recsys_lab.data.split.split_rule import SplitResult
from recsys_lab.words import RecsysLabError


def events_of(
    data: Any,
    fitted: FittedFields,
    train_stop: np.ndarray,
    rules: Rules | None = None,
    labels: FittedFields = NO_FIELDS,
    late: bool = False,
) -> Events:
    """The event arrays with the columns of their fields, and of the fields of the users.

    Args:
        labels: fields to predict: known of no event to predict.
        late: where they are fed, then one event late.
    """
    asked = [field.name for field in labels]
    own = fitted.of("event")
    columns = field_columns(data, [field for field in own if field.key in data.fields], train_stop)
    if len(columns) < len(own) and rules is not None and rules.session_start is not None:
        columns[SAME_SESSION.name] = same_session(rules.session_start)
    values = field_columns(data, labels, train_stop)
    return Events(
        data.item_ids,
        data.timestamps,
        data.offsets,
        {**values, **columns},  # what came before is known, also where no model is fed it
        [field.name for field in own if field.known_at == "query" and field.name not in asked],
        field_columns(data, fitted.of("user"), train_stop),
        rules,
        values,
        asked if late else (),
    )


def shown_of(
    data: Any, fitted: FittedFields, split: SplitResult, events: Events, max_length: int, trains: bool
) -> ShownDataset:
    """Impressions of the training part, or all others: see `SequenceDataModule.shown_dataset`."""
    if "shown/users" not in data.arrays:
        raise RecsysLabError(f"{data.name!r} has no impressions: prepare it with --impressions FILE")
    columns = field_columns(data, fitted.of("shown"), split.train_stop)
    is_training = training_impressions(data, events.offsets, split.train_stop, split.cut_time)
    return ShownDataset(events, Shown.of(data.arrays, columns), np.flatnonzero(is_training == trains), max_length)


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
        return NumericColumn(values.array, fitted.mean, fitted.std, fitted.scale, fitted.knots)
    if fitted.kind == "vector":
        return VectorColumn(values.array)
    table_row = fitted.table_row(data.field_values(fitted.key))
    if values.offsets is not None:
        return MultiColumn(values.array, values.offsets, table_row, data.fields[fitted.key].width)
    return CategoricalColumn(values.array, table_row)
