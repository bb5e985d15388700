"""Fields and the time of the event to predict, as a model that reads them (`uses_target_fields`, `uses_query_time`)
sees them in a window."""

from __future__ import annotations

import torch
from torch import Tensor

from recsys_lab.contracts import Batch
from recsys_lab.words import RecsysLabError


def target_at_each_position(batch: Batch, name: str) -> Tensor:
    """(B, L, ...): at each position the value of the event after it: within the window that is the next event's own,
    and at a row's last event that of the event to predict. So training and evaluation see the same.

    Raises:
        RecsysLabError: where nobody says what the event to predict is: `predict`.
    """
    if name not in batch.target:
        raise RecsysLabError(
            f"the model reads the field {name!r} of the event to predict, and these batches don't have it. Give it: "
            f"`recommend --target_fields {name}=VALUE`, target_fields= of Predictor.recommend, or of a request to the "
            "server; `predict` takes an event type from --data.target_types '[TYPE]', with which the model is trained"
        )
    target, row = batch.target[name], torch.arange(batch.lengths.shape[0], device=batch.lengths.device)
    if target.ndim == batch.event[name].ndim:  # training: one for each position
        target = target[row, batch.lengths - 1]  # (B, ...)
    after = batch.event[name].roll(-1, dims=1)  # (B, L, ...)
    after[row, batch.lengths - 1] = target
    return after


def target_time_at_each_position(batch: Batch) -> Tensor:
    """(B, L) int64: at each position the time of the event after it; at a row's last event that of the prediction, or
    its own where nobody says that. What stands at padding means nothing."""
    row, last = torch.arange(batch.lengths.shape[0], device=batch.lengths.device), batch.lengths - 1
    after = batch.timestamps.roll(-1, dims=1)  # (B, L)
    after[row, last] = batch.timestamps[row, last] if batch.query_time is None else batch.query_time
    return after
