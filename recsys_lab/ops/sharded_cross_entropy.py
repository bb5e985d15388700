"""Cross-entropy of a linear classifier whose table is divided among processes: vocabulary-parallel, as in Shoeybi et
al. 2019, "Megatron-LM".

The states of all processes are gathered, and not the table. Each process goes over its own items by chunks as
`linear_cross_entropy.py` does, and they exchange three numbers for each state: the largest logit, the sum of the
exponentials, and the target's logit, which its owner has. What differs from the one of a whole table: the gradients are
made in the backward pass, when the sum over all blocks is known, so that logits are made twice: four products for
three.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from recsys_lab.ops.item_blocks import within_block
from recsys_lab.ops.linear_cross_entropy import _LN_2, ItemTiles, _compute_dtype, chunk_shape
from recsys_lab.ops.processes import parts_of_all


def sharded_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    first: int,
    num_items: int,
    bias: Tensor | None = None,
    weights: Tensor | None = None,
    *,
    label_smoothing: float = 0.0,
    chunk_size: int | None = None,
) -> Tensor:
    """Mean cross-entropy of this process's positions over the items of all processes. Every process calls it.

    Gradients of `weight` and `bias` are the mean over the processes (`shards.py`), those of `hidden` its own.

    Args:
        hidden: (N, D) float; N may differ, and be 0.
        weight: (n, D) float, the items of this process; may be none.
        targets: (N,) int64 places among the items of all processes, 0..num_items-1.
        first: place of this process's first item.
        num_items: of all processes.
        bias: (n,) float or None. weights, label_smoothing, chunk_size: as in `linear_cross_entropy`.

    Returns:
        Scalar, in float32 (float64 for float64 inputs).
    """
    if len(targets) and not 0 <= int(targets.min()) <= int(targets.max()) < num_items:
        raise IndexError(f"targets must lie in 0..{num_items - 1}")
    losses: Tensor = _ShardedLosses.apply(
        hidden, weight, bias, targets, first, num_items, label_smoothing, chunk_size
    )  # (N,)
    return losses.mean() if weights is None else (losses * weights).sum() / weights.sum()


class _ShardedLosses(Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        first: int,
        num_items: int,
        label_smoothing: float,
        chunk_size: int | None,
    ) -> Tensor:
        dtype = _compute_dtype(hidden, weight)
        with torch.autocast(hidden.device.type, enabled=False):
            parts = parts_of_all(hidden.to(dtype))
            start = sum(len(part) for part in parts[: dist.get_rank()])
            ctx.own = slice(start, start + len(hidden))
            states = torch.cat(parts)  # (M, D), of all processes
            local = torch.cat(parts_of_all(targets)) - first  # (M,)
            chunk, block = chunk_shape(len(states), max(len(weight), 1), hidden.device.type, chunk_size)
            items = ItemTiles(weight, bias, dtype, chunk, block)
            scaled = items.in_base_2(states)
            found = torch.zeros(3, len(states), dtype=items.wide, device=hidden.device)
            if len(weight):
                items.shifted = items.can_overflow(scaled)
                for place in range(0, len(states), chunk):
                    rows = slice(place, place + chunk)
                    inside, is_inside = within_block(local[None, rows], slice(0, len(weight)))
                    top, total, target = items.softmax_parts(scaled[rows], inside, True)  # (1, C) each
                    found[:, rows] = torch.cat([top, total, target * is_inside])
            else:
                found[0] = -torch.inf
            top, total, target = torch.stack(parts_of_all(found, even=True)).unbind(1)  # (processes, M) each
            highest = top.amax(0)
            log_sum = highest + (total * (top - highest).exp2_()).sum(0).log2_()  # (M,), base 2
            target_logit = target.sum(0)
            losses = (log_sum - target_logit) * _LN_2
            mean_item = None
            if label_smoothing:
                means = torch.zeros(weight.shape[1] + 1, dtype=items.wide, device=hidden.device)
                means[:-1] = weight.sum(0, dtype=items.wide)
                if bias is not None:
                    means[-1] = bias.sum(dtype=items.wide)
                dist.all_reduce(means.div_(num_items))
                mean_item = means[:-1]
                mean_logit = states.to(items.wide) @ mean_item + means[-1]  # (M,)
                losses += label_smoothing * (target_logit * _LN_2 - mean_logit)
        ctx.save_for_backward(weight, bias, states, local, log_sum, mean_item)
        ctx.settings = (dtype, chunk, block, label_smoothing, num_items, hidden.dtype)
        return losses[ctx.own].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_losses: Tensor) -> tuple[Tensor | None, ...]:
        weight, bias, states, local, log_sum, mean_item = ctx.saved_tensors
        dtype, chunk, block, label_smoothing, num_items, hidden_dtype = ctx.settings
        with torch.autocast(weight.device.type, enabled=False):
            share = torch.cat(parts_of_all(grad_losses))[:, None]  # (M, 1)
            items = ItemTiles(weight, bias, dtype, chunk, block)
            scaled = items.in_base_2(states)
            share = share.to(items.wide)
            mean_share = share / dist.get_world_size()
            grad_hidden = torch.zeros(states.shape, dtype=items.wide, device=weight.device)
            grad_weight = torch.zeros(weight.shape, dtype=items.wide, device=weight.device)
            grad_bias = None if bias is None else torch.zeros(len(bias), dtype=items.wide, device=weight.device)
            for place in range(0, len(states), chunk) if len(weight) else ():
                rows = slice(place, place + chunk)
                normalised = (states[rows] * mean_share[rows]).to(dtype)  # (C, D)
                for part in items.blocks:
                    inside, is_inside = within_block(local[None, rows], part)
                    factors = items.logits(scaled[rows], part).sub_(log_sum[None, rows]).exp2_()  # (I, C) softmax
                    factors.scatter_add_(0, inside, is_inside * (label_smoothing - 1.0))
                    grad_hidden[rows] += (items.table[part].T @ factors.to(dtype)).T * share[rows]
                    grad_weight[part] += factors.to(dtype) @ normalised
                    if grad_bias is not None:
                        grad_bias[part].addmv_(factors, mean_share[rows, 0])
            dist.all_reduce(grad_hidden)
            if label_smoothing:
                grad_hidden -= mean_item * share * label_smoothing
                grad_weight -= (states.to(items.wide) * mean_share).sum(0) * (label_smoothing / num_items)
                if grad_bias is not None:
                    grad_bias -= mean_share.sum() * (label_smoothing / num_items)
        own = grad_hidden[ctx.own].to(hidden_dtype)
        of_bias = None if grad_bias is None or bias is None else grad_bias.to(bias.dtype)
        return own, grad_weight.to(weight.dtype), of_bias, None, None, None, None, None
