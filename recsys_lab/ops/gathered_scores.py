"""Scores of items of each position's own: (N, D) and (N, C) ids -> (N, C), without the (N, C, D) tensor of their rows.

Gathering the rows and a batched product would keep them for the backward pass and make a gradient of the same size.
Here rows are gathered for a few positions at a time, and both gradients are sums of rows weighted by the gradient of
the scores, which is what `embedding_bag` computes: over the items of a position for the states, and over the positions
of an item (the ids sorted) for the table. On one core 4 to 5 times as fast as the gather for N x C = 6,400 x 16 and
2,000 x 256 at D = 64. The table's gradient has one row for each distinct item, as row-sparse optimisers want it.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

_GATHERED_ELEMENTS = 1_000_000  # at a time: 4 MB, which stays in a cache


def gathered_scores(hidden: Tensor, weight: Tensor, item_ids: Tensor, sparse: bool = False) -> Tensor:
    """Inner products of each state with its own items' vectors.

    Args:
        hidden: (N, D).
        weight: (V, D), the item table.
        item_ids: (N, C) int64.
        sparse: the gradient of `weight` is a coalesced sparse tensor.

    Returns:
        (N, C), in the dtype of the products. Not twice differentiable.
    """
    if torch.compiler.is_compiling():  # the compiler fuses the gather itself, and can't have the sort
        rows = F.embedding(item_ids, weight, sparse=sparse)
        return torch.bmm(rows, hidden.unsqueeze(2)).squeeze(2)
    scores: Tensor = _GatheredScores.apply(hidden, weight, item_ids, sparse)
    return scores


class _GatheredScores(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, item_ids: Tensor, sparse: bool) -> Tensor:
        ctx.save_for_backward(hidden, weight, item_ids)
        ctx.sparse = sparse
        chunk = max(_GATHERED_ELEMENTS // max(item_ids.shape[1] * weight.shape[1], 1), 1)
        parts = [
            torch.bmm(F.embedding(ids, weight), states.unsqueeze(2)).squeeze(2)
            for ids, states in zip(item_ids.split(chunk), hidden.split(chunk), strict=True)
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_scores: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, item_ids = ctx.saved_tensors
        grad_scores, grad_hidden, grad_weight = grad_scores.to(weight.dtype), None, None
        if ctx.needs_input_grad[0]:
            grad_hidden = F.embedding_bag(item_ids, weight, per_sample_weights=grad_scores, mode="sum")  # (N, D)
            grad_hidden = grad_hidden.to(hidden.dtype)
        if ctx.needs_input_grad[1]:
            sorted_ids, order = item_ids.flatten().sort(stable=True)  # (N C,)
            items, counts = sorted_ids.unique_consecutive(return_counts=True)  # (R,)
            starts = counts.cumsum(0) - counts
            position, share = order // item_ids.shape[1], grad_scores.flatten()[order]
            rows = F.embedding_bag(position, hidden.to(weight.dtype), starts, per_sample_weights=share, mode="sum")
            if ctx.sparse:
                grad_weight = torch.sparse_coo_tensor(
                    items.unsqueeze(0), rows, weight.shape, check_invariants=False, is_coalesced=True
                )
            else:
                grad_weight = torch.zeros_like(weight)
                grad_weight[items] = rows
        return grad_hidden, grad_weight, None, None
