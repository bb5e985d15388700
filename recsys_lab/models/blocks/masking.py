"""Masked events: real ones (`valid_mask`) without an item and without fields, for models that fill them in."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from recsys_lab.contracts import Batch
from recsys_lab.models.blocks.target_fields import target_at_each_position
from recsys_lab.models.module import last_position
from recsys_lab.words import PAD_ID


def is_masked(batch: Batch) -> Tensor:
    """(B, L) bool. The token of a user has no item either, and is no event."""
    masked = (batch.item_ids == PAD_ID) & batch.valid_mask
    if batch.begins_with_user:
        masked[:, 0] = False
    return masked


def one_more(
    batch: Batch, known: Collection[str], at_query_time: bool = False, item_ids: Tensor | None = None
) -> Batch:
    """A copy with the event to predict behind each row's last: windows of L + 1 events.

    Args:
        known: names of the fields of that event that are known; it has no others.
        at_query_time: its time is known too; else it has that of the last event.
        item_ids: (B,) its item; None = it is masked.
    """
    row, place = torch.arange(batch.lengths.shape[0], device=batch.lengths.device), batch.lengths

    def longer(values: Tensor, new: Tensor | int) -> Tensor:
        values = torch.cat([values, torch.zeros_like(values[:, :1])], dim=1)
        values[row, place] = new
        return values

    event = {
        name: longer(values, last_position(target_at_each_position(batch, name), batch.lengths) if name in known else 0)
        for name, values in batch.event.items()
    }
    time = last_position(batch.timestamps, batch.lengths)
    if at_query_time and batch.query_time is not None:
        time = batch.query_time
    return replace(
        batch,
        item_ids=longer(batch.item_ids, PAD_ID if item_ids is None else item_ids),
        valid_mask=longer(batch.valid_mask, True),
        timestamps=longer(batch.timestamps, time),
        lengths=batch.lengths + 1,
        event=event,
        prefix_of=None,
    )


def with_masks(batch: Batch, masked: Tensor, known: Collection[str]) -> Batch:
    """A copy of windows of `one_more` without the items and fields of the masked events, which are its targets.

    Args:
        masked: (B, L + 1) bool, real events.
        known: names of the fields that stay, since they are known of an event to predict.
    """
    hidden = {
        name: values.masked_fill(masked.reshape(*masked.shape, *[1] * (values.ndim - 2)), 0)
        for name, values in batch.event.items()
        if name not in known
    }
    weights = batch.target_weights  # (B, L) of the events after each position
    return replace(
        batch,
        item_ids=batch.item_ids.masked_fill(masked, PAD_ID),
        target_ids=batch.item_ids.masked_fill(~masked, PAD_ID),
        target_weights=None if weights is None else F.pad(weights, (1, 0)),
        event={**batch.event, **hidden},
        target={},
        target_positions=None,
    )
