"""The settings of a data module -> `Rules` of its events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl
import torch

from recsys_lab.data.availability import live_items
from recsys_lab.data.batches.event_rules import Rules
from recsys_lab.data.event_types import is_of_types
from recsys_lab.data.fitting.label_fields import is_labelled
from recsys_lab.data.sessions import session_starts
from recsys_lab.words import EVENT_TYPE, RecsysLabError

if TYPE_CHECKING:
    from recsys_lab.data.datamodule import SequenceDataModule


def rules_of(data: SequenceDataModule) -> Rules:
    """Raises RecsysLabError for names that the data doesn't have, naming the option."""
    processed = data.processed
    is_target = hides = weights = None
    if data.target_types is not None:
        is_target = is_of_types(processed, data.target_types, "--data.target_types")
    if data.exclude_seen_types is not None:
        if data.exclude_seen == "none":
            raise RecsysLabError("--data.exclude_seen_types changes nothing with --data.exclude_seen none")
        hides = is_of_types(processed, data.exclude_seen_types, "--data.exclude_seen_types")
    if data.weights is not None:
        weights = data.weights.of(processed, data.split_result.train_stop)
        is_target = weights > 0 if is_target is None else is_target & (weights > 0)
    if data.samples.only_labelled:
        labelled = is_labelled(data)
        is_target = labelled if is_target is None else is_target & labelled
    start = None if data.sessions is None else session_starts(processed, data.sessions)
    live = None if data.available is None else live_items(processed, data.available)
    return Rules(is_target, weights, hides, start, live, _asked(data))


def list_rules(data: SequenceDataModule) -> dict[str, Any]:
    """What lists leave out, as plain data and tensors for a checkpoint: `exclude_seen`, where they are set
    `exclude_seen_types` and `sessions`, and (V,) `since` and `until` with `available`."""
    found: dict[str, Any] = {"exclude_seen": data.exclude_seen}
    if data.exclude_seen_types is not None:
        found["exclude_seen_types"] = list(data.exclude_seen_types)
    if data.exclude_seen == "session":
        found["sessions"] = data.sessions
    live = data.rules.live
    if live is not None:
        found |= {"since": torch.from_numpy(live.since), "until": torch.from_numpy(live.until)}
    return found


def _asked(data: SequenceDataModule) -> torch.Tensor | None:
    """The type of the event to predict, where it can be only one and a model may be told."""
    named, types = data.target_types or [], [one for one in data.fitted_fields.of("event") if one.name == EVENT_TYPE]
    return types[0].tensor(pl.Series(named)) if len(named) == 1 and types and types[0].known_at == "query" else None
