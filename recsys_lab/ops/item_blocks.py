"""Full cross-entropy where not even a few positions by all items fit: the items in blocks, gone over twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from recsys_lab.ops.linear_cross_entropy import ItemTiles


def softmax_over_blocks(items: ItemTiles, states: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """`ItemTiles.softmax_parts` of several blocks: the largest logit and the sum of each block, then those of all. The
    exponentials of the last block stay in the buffer."""
    tops, totals, target_logits = [], [], torch.zeros_like(targets, dtype=items.wide)
    for block in items.blocks:
        logits = items.logits(states, block)
        local, inside = within_block(targets, block)
        target_logits = torch.where(inside, logits.gather(0, local), target_logits)
        if items.shifted:
            tops.append(logits.amax(0, keepdim=True))
            logits.sub_(tops[-1])
        totals.append(logits.exp2_().sum(0, keepdim=True))
    every_total = torch.cat(totals)  # (blocks, C)
    if not items.shifted:
        return torch.zeros_like(target_logits), every_total.sum(0, keepdim=True), target_logits
    every_top = torch.cat(tops)  # (blocks, C)
    top = every_top.amax(0, keepdim=True)
    total = (every_total * (every_top - top).exp2_()).sum(0, keepdim=True)
    return top, total, target_logits


def within_block(targets: Tensor, block: slice) -> tuple[Tensor, Tensor]:
    """Where in the block each target is, and whether it is: (1, C) int64, (1, C) bool."""
    local, size = targets - block.start, block.stop - block.start
    return local.clamp(0, size - 1), (local >= 0) & (local < size)
