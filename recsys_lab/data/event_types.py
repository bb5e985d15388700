"""Event types by their names, and how much each event counts as a target."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from recsys_lab.arguments import check_fields
from recsys_lab.data.fields.stored import check_named
from recsys_lab.data.split.temporal import seconds_of_window
from recsys_lab.data.training_counts import training_positions
from recsys_lab.words import RecsysLabError, did_you_mean


def is_of_types(data: Any, names: Iterable[str], option: str) -> np.ndarray:
    """(E,) bool: which events are of these types.

    Args:
        data: `ProcessedDataset`. option: that names them, for messages.

    Raises:
        RecsysLabError: for a name that the data doesn't have, or for none.
    """
    known, wanted = data.event_type_names, list(names)
    if not known:
        raise RecsysLabError(f"{option}: {data.name} has no event types")
    if not wanted:
        raise RecsysLabError(f"{option} is empty: name event types; {data.name} has {', '.join(known)}")
    for name in wanted:
        if name not in known:
            there = f"{data.name} has {', '.join(known)}"
            raise RecsysLabError(f"{option}: no event is of type {name!r}; {there}.{did_you_mean(name, known)}")
    asked = np.zeros(len(known) + 1, dtype=bool)
    asked[[known.index(name) + 1 for name in wanted]] = True
    return asked[np.asarray(data.event_types)]


@dataclass(frozen=True)
class TargetWeights:
    """How much each event counts in the loss when it is the target: the product of what is set.

    Args:
        column: numbers of the events, not negative; a missing one counts 1.
        half_life: an event that is so much older than the newest training event counts half: 30d, 12h.
        types: weight of an event type; those that are not named count 1. With 0 they are no targets of training.
    """

    column: str | None = None
    half_life: str | None = None
    types: dict[str, float] | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        if self.half_life is not None:
            seconds_of_window(self.half_life, "half_life", "TargetWeights")
        for name, weight in (self.types or {}).items():
            if not (isinstance(weight, int | float) and 0 <= weight < float("inf")):
                raise RecsysLabError(
                    f"--data.weights.types: {name} has the weight {weight!r}, which must be at least 0"
                )
        if self.column is None and self.half_life is None and not self.types:
            raise RecsysLabError("--data.weights needs a column, a half_life or types: leave it out for equal weights")

    def of(self, data: Any, train_stop: np.ndarray) -> np.ndarray:
        """(E,) float32.

        Raises:
            RecsysLabError: for what the data doesn't have, and for negative numbers.
        """
        found = np.ones(data.num_events, dtype=np.float32)
        if self.column is not None:
            found *= self._of_column(data)
        if self.half_life is not None:
            if not data.has_timestamps:
                raise RecsysLabError(f"--data.weights.half_life: {data.name} has no times")
            times = np.asarray(data.timestamps)
            trained = training_positions(np.asarray(data.offsets), train_stop)
            age = np.maximum(times[trained].max() - times, 0)
            found *= np.exp2(-age / seconds_of_window(self.half_life, "half_life", "TargetWeights")).astype(np.float32)
        for name, weight in (self.types or {}).items():
            found[is_of_types(data, [name], "--data.weights.types")] *= np.float32(weight)
        if not found[training_positions(np.asarray(data.offsets), train_stop)].any():
            raise RecsysLabError("--data.weights: every event of the training part has the weight 0")
        return found

    def _of_column(self, data: Any) -> np.ndarray:
        advice = "numbers of the events: {known}"
        check_named(data.fields, str(self.column), "event", "numeric", "--data.weights.column", advice)
        values = np.array(data.field_array(self.column), dtype=np.float32)
        values[np.isnan(values)] = 1.0
        if (values < 0).any():
            raise RecsysLabError(
                f"--data.weights.column: {self.column!r} has negative numbers, down to {values.min():g}"
            )
        return values
