"""The settings of a data module -> `Rules` of its events."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recsys_lab.data.availability import live_items
from recsys_lab.data.batches.event_rules import Rules
from recsys_lab.data.event_types import is_of_types
from recsys_lab.data.sessions import session_starts

if TYPE_CHECKING:
    from recsys_lab.data.datamodule import SequenceDataModule


def rules_of(data: SequenceDataModule) -> Rules:
    """Raises RecsysLabError for names that the data doesn't have, naming the option."""
    processed = data.processed
    is_target = hides = weights = None
    if data.target_types is not None:
        is_target = is_of_types(processed, data.target_types, "--data.target_types")
    if data.exclude_seen_types is not None:
        hides = is_of_types(processed, data.exclude_seen_types, "--data.exclude_seen_types")
    if data.weights is not None:
        weights = data.weights.of(processed, data.split_result.train_stop)
        is_target = weights > 0 if is_target is None else is_target & (weights > 0)
    start = None if data.sessions is None else session_starts(processed, data.sessions)
    live = None if data.available is None else live_items(processed, data.available)
    return Rules(is_target, weights, hides, start, live)
