"""The fields that a task predicts: chosen, checked, and fitted on the training part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from recsys_lab.batch import FIRST_VALUE
from recsys_lab.data.batches.field_columns import CategoricalColumn, NumericColumn
from recsys_lab.data.fields.stored import owners
from recsys_lab.data.fitting.field_tensors import field_columns
from recsys_lab.data.fitting.fit_fields import fit_fields
from recsys_lab.data.fitting.fitted_fields import NO_FIELDS, FittedFields
from recsys_lab.words import EVENT_TYPE, RecsysLabError, did_you_mean

if TYPE_CHECKING:
    from recsys_lab.data.datamodule import SequenceDataModule

OPTION = "--model.task.field"


def fit_labels(data: SequenceDataModule) -> FittedFields:
    """Of what `data.samples` names; numbers are standardised as they are.

    Raises:
        RecsysLabError: for what can't be predicted, naming it and what can.
    """
    if not data.samples.labels:
        return NO_FIELDS
    check_labels(data.processed.fields, data.samples.labels, getattr(data.split, "column", None))
    if EVENT_TYPE in data.samples.labels and len(data.target_types or ()) == 1:
        raise RecsysLabError(
            f"{OPTION} {EVENT_TYPE}: with --data.target_types {data.target_types} every target is of one type, and "
            "there is nothing to predict: name several types, or none"
        )
    fitted = fit_fields(data.processed, data.samples.labels, data.split_result, lambda: data.item_counts.numpy())
    for one in fitted:
        if one.kind == "categorical" and len(one.values) < 2:
            there = f"the one value {one.values[0]!r}" if len(one.values) else "no value"
            raise RecsysLabError(f"{OPTION}: {one.key!r} has {there} in the training part: there is nothing to predict")
    return fitted


def is_labelled(data: SequenceDataModule) -> np.ndarray:
    """(E,) bool: events with a value that the training part has, of each field to predict; or with a number."""
    found = np.ones(data.processed.num_events, dtype=bool)
    for column in field_columns(data.processed, data.fitted_labels, data.split_result.train_stop).values():
        if isinstance(column, CategoricalColumn):
            found &= column.table_row[column.codes] >= FIRST_VALUE
        elif isinstance(column, NumericColumn):
            found &= ~np.isnan(column.values)
    return found


def check_labels(known: Mapping[str, Any], names: Sequence[str], split_column: str | None = None) -> None:
    """Raises RecsysLabError for names that are no categorical or numeric fields of the events."""
    can = [key for key, one in known.items() if one.scope == "event" and one.kind in ("categorical", "numeric")]
    can = [key for key in can if key != split_column]
    for name in names:
        if name in can:
            continue
        problem = "is no field of the data"
        if name == split_column:
            problem = "says which events train (data.split.column)"
        elif name in known and known[name].scope != "event":
            problem = f"is a field of the {owners(known[name].scope)}, and no event has one of its own"
        elif name in known:
            problem = f"is a {known[name].kind} field"
        raise RecsysLabError(
            f"{OPTION}: {name!r} {problem}; categorical and numeric fields of the events: "
            f"{', '.join(can) or 'none'}.{did_you_mean(name, can)}"
        )
