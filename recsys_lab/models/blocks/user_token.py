"""A token of the user before the first event of a window: one position more, which stands for no event."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from recsys_lab.contracts import Batch
from recsys_lab.words import RecsysLabError


def with_token(batch: Batch) -> Batch:
    """The batch with one more position in front: real, of no item, at the time of the first event; L + 1 positions."""
    if batch.begins_with_user:
        return batch
    times = batch.timestamps
    changed: dict[str, Any] = {
        "item_ids": _widened(batch.item_ids),
        "valid_mask": F.pad(batch.valid_mask, (1, 0), value=True),
        "timestamps": torch.cat([times[:, :1], times], dim=1),
        "lengths": batch.lengths + 1,
        "event": {name: _widened(values) for name, values in batch.event.items()},
    }
    if _in_training(batch):
        changed["target_ids"] = _widened(batch.target_ids)
        for name in ("target", "target_labels"):
            changed[name] = {field: _widened(values) for field, values in getattr(batch, name).items()}
    return replace(batch, **changed, target_positions=None, begins_with_user=True)


def without_token(batch: Batch) -> Batch:
    """The inverse, as far as an encoder reads it.

    Raises:
        RecsysLabError: where there is no such token.
    """
    if not batch.begins_with_user:
        raise RecsysLabError(
            "the windows of this model begin with a token of the user (--model.inputs.user first): ask its `hidden` or "
            "`query`, which put it there, and not its `encode`"
        )
    changed: dict[str, Any] = {name: getattr(batch, name)[:, 1:] for name in ("item_ids", "valid_mask", "timestamps")}
    changed["event"] = {name: values[:, 1:] for name, values in batch.event.items()}
    if _in_training(batch):
        changed["target_ids"] = batch.target_ids[:, 1:]
        for name in ("target", "target_labels"):
            changed[name] = {field: values[:, 1:] for field, values in getattr(batch, name).items()}
    return replace(batch, **changed, lengths=batch.lengths - 1, begins_with_user=False)


def _widened(values: Tensor) -> Tensor:
    """(B, L, ...) -> (B, L + 1, ...), zeros first."""
    return F.pad(values, (0, 0) * (values.ndim - 2) + (1, 0))


def _in_training(batch: Batch) -> bool:
    """A target at each position."""
    return batch.target_mask is None and batch.target_ids.shape == batch.item_ids.shape
