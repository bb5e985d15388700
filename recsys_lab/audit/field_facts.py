"""What each field holds, and whether the test part has it otherwise than the training part."""

from __future__ import annotations

from typing import Any

import numpy as np

from recsys_lab.audit.log import Log
from recsys_lab.data.fields.stored import StoredField
from recsys_lab.data.fitting.stored_values import FieldValues
from recsys_lab.data.prepare.processed import ProcessedDataset
from recsys_lab.data.split.leave_one_out import SplitResult

TOTAL_VARIATION = "total variation distance"
MEAN_DIFFERENCE = "standardised mean difference"


def field_facts(data: ProcessedDataset, log: Log, split: SplitResult) -> list[dict[str, Any]]:
    """One row for each field: key, kind, width, number of values, share of rows without a value, and drift.

    Drift compares training events with test targets: of fields of items the items of both, of users the users that have
    any. It is the total variation distance of the values (0: the same shares, 1: no value in common; a missing value
    is one of them) for `categorical` and `multi`, and for `numeric` and `vector` the distance of the means in standard
    deviations of both parts (0.1 is little, 0.8 much). None for text, for what was shown, and without targets.
    """
    weights = _weights(log, split) if len(split.test) else {}
    return [_facts(data, field, weights.get(field.scope)) for field in data.fields.values()]


def cold_items(data: ProcessedDataset, log: Log, split: SplitResult) -> dict[str, int]:
    """How many items have no training event, and how many of those have a value in a field of the items that is no
    text: models that read fields can rank them (`--evaluation.candidates all`)."""
    is_training = np.arange(log.num_events) < np.repeat(split.train_stop, log.lengths)
    cold = np.bincount(log.item_ids[is_training], minlength=log.num_items + 1)[1:] == 0
    known = np.zeros(log.num_items, dtype=bool)
    for field in data.fields.values():
        if field.scope == "item" and field.kind != "text" and not field.from_events:
            offsets = np.asarray(data.field_offsets(field.key)) if field.kind == "multi" else None
            known |= FieldValues(np.asarray(data.field_array(field.key)), offsets).has_value(slice(0, log.num_items))
    return {"items": int(cold.sum()), "with_fields": int((cold & known).sum())}


def _weights(log: Log, split: SplitResult) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Scope -> how much each of its rows counts in the training part and in the test part."""
    is_training = np.arange(log.num_events) < np.repeat(split.train_stop, log.lengths)
    is_test = np.zeros(log.num_events)
    np.add.at(is_test, split.test.position, 1)
    items = [np.bincount(log.item_ids - 1, weights=w, minlength=log.num_items) for w in (is_training, is_test)]
    users = [np.add.reduceat(w.astype(np.float64), log.offsets[:-1]) > 0 for w in (is_training, is_test)]
    return {
        "event": (is_training.astype(np.float64), is_test),
        "item": (items[0], items[1]),
        "user": (users[0].astype(np.float64), users[1].astype(np.float64)),
    }


def _facts(data: ProcessedDataset, field: StoredField, weights: tuple[np.ndarray, np.ndarray] | None) -> dict[str, Any]:
    rows = {"event": data.num_events, "item": data.num_items, "user": data.num_users}.get(
        field.scope, data.manifest.get("num_shown", 0)
    )
    found: dict[str, Any] = {
        "key": field.key,
        "kind": field.kind,
        "known_at": field.known_at,
        "width": field.width,
        "values": field.num_values if field.has_values else None,
        "missing": field.missing / rows,
        "conflicts": field.conflicts if field.from_events else None,
        "drift": None,
        "drift_of": None,
    }
    if weights is None or field.kind == "text":
        return found
    found["drift_of"] = TOTAL_VARIATION if field.has_values else MEAN_DIFFERENCE
    if field.has_values:
        found["drift"] = total_variation(*(_shares(data, field, weight) for weight in weights))
    else:
        found["drift"] = mean_difference(np.asarray(data.field_array(field.key)), *weights)
    return found


def _shares(data: ProcessedDataset, field: StoredField, weight: np.ndarray) -> np.ndarray:
    """(num_values + 1,) how much each code counts."""
    codes = np.asarray(data.field_array(field.key))
    if field.kind == "multi":
        weight = np.repeat(weight, np.diff(data.field_offsets(field.key)))
    return np.bincount(codes, weights=weight, minlength=field.num_values + 1)


def total_variation(first: np.ndarray, second: np.ndarray) -> float | None:
    """Half the summed difference of the shares of (n,) and (n,) counts; None where one has none."""
    totals = first.sum(), second.sum()
    if not all(totals):
        return None
    return float(np.abs(first / totals[0] - second / totals[1]).sum() / 2)


def mean_difference(values: np.ndarray, first: np.ndarray, second: np.ndarray) -> float | None:
    """Distance of the weighted means over the root of the mean variance, of numbers (rows,) or vectors (rows, D); rows
    without a value (NaN) don't count. None where one side has none or nothing varies."""
    rows = values[:, None] if values.ndim == 1 else values
    known = ~np.isnan(rows[:, 0])
    rows, sides = rows[known].astype(np.float64), (first[known], second[known])
    if not all(side.sum() for side in sides):
        return None
    means = [side @ rows / side.sum() for side in sides]
    variances = [side @ (rows - mean) ** 2 / side.sum() for side, mean in zip(sides, means, strict=True)]
    spread = float((variances[0] + variances[1]).sum() / 2)
    return float(np.linalg.norm(means[0] - means[1]) / np.sqrt(spread)) if spread > 0 else None
