"""Cross-entropy of a linear classifier without the (N, V) matrix of logits.

The idea of Wijmans et al. 2025, "Cut Your Losses in Large-Vocabulary Language Models", and of fused linear
cross-entropy kernels: the softmax of a chunk of positions is used up at once for its part of the gradients, so that
only one chunk of logits lives at a time. What differs: plain torch instead of a GPU kernel over tiles, no filtering of
small gradients (the result is exact), and the gradients are made in the forward pass.

A chunk is some positions by all items, whose logits are computed once. Where the memory is too small for even a few
positions by all items, it is cut into blocks of items as well and gone over twice: first for the denominator of the
softmax, then for the gradients. That costs a fourth matrix product beside the three, and is about a tenth slower, but
the memory no longer depends on the number of items.

On CPU this is faster than the full matrix as well, since a chunk of logits stays in the cache between its passes.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from recsys_lab.ops.item_blocks import softmax_over_blocks, within_block

# Logits per chunk. CPU: 3.5 M floats = 14 MB, within the fastest sizes for V = 1,682, 3,416 and 12,101 at D = 64 on one
# core and on two: less makes products thin, more leaves the cache. Elsewhere: 256 MB, enough work per kernel launch.
_CHUNK_ELEMENTS = {"cpu": 3_500_000}
_CHUNK_ELEMENTS_ELSEWHERE = 64_000_000
# Positions. Products thinner than 96 cost more than a chunk that leaves the cache does, so it may grow up to 192 MB.
# Where those hold fewer, blocks it is.
_THIN_CHUNK = 96
_MOST_ELEMENTS = 48_000_000
_THICK_CHUNK = {"cpu": 960}  # more positions make no product faster, only the buffer larger
_BLOCKED_CHUNK = 480
# Chunks are a multiple of it: rows that start at a cache line (16 floats), but not a power of two apart, which the
# cache can't hold side by side. Either costs up to a quarter of the speed.
_MULTIPLE = 48
# Exponentials from 2^-80 to 2^80 and their sums and products with items stay well within float32 (2^-126 to 2^127).
_SAFE_LOGIT = 80.0
_LN_2, _LOG2_E = math.log(2.0), math.log2(math.e)


def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    target_ids: Tensor,
    bias: Tensor | None = None,
    weights: Tensor | None = None,
    *,
    label_smoothing: float = 0.0,
    chunk_size: int | None = None,
    block_size: int | None = None,
) -> Tensor:
    """Mean cross-entropy over items 1..V-1 of `hidden @ weight.T + bias`; row 0 (padding) takes no part.

    Gradients flow to hidden, weight and bias (dense; row 0 gets zeros). They are computed here and not in the backward
    pass, hence only where gradients are on. Not twice differentiable. A backward pass hands them over without a copy,
    except with `retain_graph=True`.

    Under autocast the products run in its dtype and everything else in float32; float16 is computed in float32, since
    gradients made here know nothing of a loss scale that would keep small ones from vanishing.

    Args:
        hidden: (N, D) float.
        weight: (V, D) float.
        target_ids: (N,) int64 in 1..V-1; others are an index error.
        bias: (V,) float or None.
        weights: (N,) of the positions, not negative: the mean is weighted by them. No gradient flows to them.
        label_smoothing: share of the target's weight that is spread over all V-1 items, as in
            `torch.nn.functional.cross_entropy`.
        chunk_size: positions per chunk; None takes one that fits V and the device.
        block_size: items per block; None takes all, or with `chunk_size=None` fewer where they are too many.

    Returns:
        Scalar, in float32 (float64 for float64 inputs).
    """
    chunk, block = chunk_shape(hidden.shape[0], weight.shape[0] - 1, hidden.device.type, chunk_size, block_size)
    return _LinearCrossEntropy.apply(
        hidden, weight, bias, target_ids, weights, label_smoothing, chunk, block, torch.is_grad_enabled()
    )


def chunk_shape(
    num_positions: int, num_items: int, device: str, chunk_size: int | None = None, block_size: int | None = None
) -> tuple[int, int]:
    """Positions and items per chunk; both evened out where they are free, so that no thin rest is left at the end."""
    elements = _CHUNK_ELEMENTS.get(device, _CHUNK_ELEMENTS_ELSEWHERE)
    if chunk_size is None:
        width = block_size or num_items
        fits = max(elements // width, min(_MOST_ELEMENTS // width, _THIN_CHUNK))
        fits = min(fits, _THICK_CHUNK.get(device, fits))
        too_thin = block_size is None and fits < min(_THIN_CHUNK, num_positions)
        chunk_size = _evened(num_positions, _BLOCKED_CHUNK if too_thin else max(fits, 1), _MULTIPLE)
        if too_thin:
            block_size = _evened(num_items, elements // chunk_size)
    return max(min(chunk_size, num_positions), 1), min(block_size or num_items, num_items)


def _evened(total: int, largest: int, multiple: int = 1) -> int:
    """The size of the fewest parts of `total` that are all about equal and at most `largest`: a multiple of `multiple`
    where `largest` is no less than that."""
    if largest < multiple:
        multiple = 1
    largest -= largest % multiple
    size = math.ceil(total / max(math.ceil(total / largest), 1))
    return math.ceil(size / multiple) * multiple


def _compute_dtype(hidden: Tensor, weight: Tensor) -> torch.dtype:
    dtype = torch.promote_types(hidden.dtype, weight.dtype)
    if dtype != torch.float64 and torch.is_autocast_enabled(hidden.device.type):
        dtype = torch.get_autocast_dtype(hidden.device.type)
    return torch.float32 if dtype == torch.float16 else dtype


class ItemTiles:
    """The items' side of the product, block by block, without padding. `wide` is the dtype of logits, sums and
    gradients.

    Tiles of logits are (I, C), items down and positions across: the product that writes one runs at the speed of the
    other two that way, for few positions as well; as (C, I) it took up to twice as long on a CPU.

    Logits are in base 2, since exp2 takes about half the time of exp.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype, chunk: int, block: int) -> None:
        self.wide = torch.float64 if dtype == torch.float64 else torch.float32
        self.table = weight.to(dtype)  # (V-1, D); itself where the dtype is right already
        self.bias = None if bias is None else bias[:, None].to(self.wide) * _LOG2_E  # (V-1, 1)
        count = self.table.shape[0]
        self.blocks = [slice(start, min(start + block, count)) for start in range(0, count, block)]
        self.buffer = torch.empty(chunk * min(block, count), dtype=self.wide, device=weight.device)
        self.shifted = True  # the largest logit is taken off before exponentials; see `can_overflow`

    def can_overflow(self, states: Tensor) -> bool:
        """Whether exponentials of the logits of `states` (N, D), from `in_base_2`, may leave what float32 holds.

        No logit can be larger than the longest state times the longest item. Where that is safe, two passes over each
        tile are not needed. Yes without a look where looking would be a wait for the device.
        """
        if states.device.type != "cpu" or not states.numel() or self.wide != self.table.dtype:
            return True
        bound = torch.linalg.vector_norm(states, dim=1).amax() * torch.linalg.vector_norm(self.table, dim=1).amax()
        if self.bias is not None:
            bound += self.bias.abs().amax()
        return not bool(bound <= _SAFE_LOGIT)  # NaN is not

    @cached_property
    def with_ones(self) -> Tensor:
        """(D+1, V-1): the items as columns, over a row of ones. One product of it with the exponentials gives what the
        states' gradient needs and the sums of the exponentials, which would be one more pass over the tile."""
        count, dim = self.table.shape
        rows = self.table.new_empty(count, dim + 1)  # filled as rows: writing columns takes ten times as long
        rows[:, :dim], rows[:, dim] = self.table, 1.0
        return rows.T

    def logits(self, states: Tensor, block: slice) -> Tensor:
        """Base-2 logits (I, C) of states (C, D) that `in_base_2` gave and the items of the block, in the buffer: the
        next call overwrites them."""
        table = self.table[block]
        logits = self.tile(block, len(states))
        if states.dtype == self.wide:
            torch.mm(table, states.T, out=logits)
        else:
            logits.copy_(table @ states.T).mul_(_LOG2_E)
        return logits if self.bias is None else logits.add_(self.bias[block])

    def in_base_2(self, states: Tensor) -> Tensor:
        """Scaled before the product, where that is no more rounding: a pass less over each tile."""
        return states * _LOG2_E if states.dtype == self.wide else states

    def tile(self, block: slice, positions: int) -> Tensor:
        """The buffer as (I, C)."""
        size = block.stop - block.start
        return self.buffer[: size * positions].view(size, positions)

    def exponentials(self, states: Tensor, block: slice, top: Tensor) -> Tensor:
        """2 ** (logit - top), (I, C), in the buffer; top is (1, C)."""
        logits = self.logits(states, block)
        return (logits.sub_(top) if self.shifted else logits).exp2_()

    def softmax_parts(self, states: Tensor, targets: Tensor, want_sum: bool) -> tuple[Tensor, Tensor, Tensor]:
        """(C, D), (1, C) -> what is taken off each position's logits (the largest, or 0), the sum of the exponentials
        of the rest (without `want_sum` a zero, where there is one block), and the target's logit, all (1, C) and in
        base 2.

        The exponentials of the last block stay in the buffer.
        """
        if len(self.blocks) > 1:
            return softmax_over_blocks(self, states, targets)
        logits = self.logits(states, self.blocks[0])
        target_logits = logits.gather(0, targets)  # not clamped: a target that is no item must be an error
        top = total = torch.zeros_like(target_logits)
        if self.shifted:
            top = logits.amax(0, keepdim=True)
            logits.sub_(top)
        logits.exp2_()
        if want_sum:
            total = logits.sum(0, keepdim=True)
        return top, total, target_logits


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        target_ids: Tensor,
        weights: Tensor | None,
        label_smoothing: float,
        chunk: int,
        block: int,
        with_gradients: bool,
    ) -> Tensor:
        need_hidden, need_weight, need_bias = (with_gradients and need for need in ctx.needs_input_grad[:3])
        dtype, device = _compute_dtype(hidden, weight), hidden.device
        with torch.autocast(device.type, enabled=False):
            items = ItemTiles(weight[1:], None if bias is None else bias[1:], dtype, chunk, block)
            wide = items.wide
            states, targets = hidden.to(dtype), (target_ids - 1).unsqueeze(0)  # (N, D), (1, N)
            scaled_states = items.in_base_2(states)
            items.shifted = items.can_overflow(scaled_states)
            num_positions, num_items = states.shape[0], items.table.shape[0]
            several = len(items.blocks) > 1
            if several and num_positions and not 0 <= targets.min() <= targets.max() < num_items:
                raise IndexError(f"target_ids must lie in 1..{num_items}")
            sum_by_product = need_hidden and not several and dtype == wide and _products_are_exact(device)
            share = None if weights is None else weights.detach().to(wide).unsqueeze(1)  # (N, 1)
            losses = torch.empty(1, num_positions, dtype=wide, device=device)
            target_logits = torch.empty(1, num_positions, dtype=wide, device=device)
            grad_hidden = torch.empty(states.shape, dtype=wide, device=device) if need_hidden else None
            grad_weight = torch.zeros(weight.shape, dtype=wide, device=device) if need_weight else None
            grad_bias = torch.zeros(weight.shape[0], dtype=wide, device=device) if need_bias else None

            for start in range(0, num_positions, chunk):
                rows = slice(start, start + chunk)
                states_c, targets_c = scaled_states[rows], targets[:, rows]  # (C, D), (1, C)
                top, total, target_logit = items.softmax_parts(states_c, targets_c, not sum_by_product)  # (1, C) each
                if sum_by_product:
                    expected = items.with_ones @ items.tile(items.blocks[0], len(states_c))  # (D+1, C)
                    expected, total = expected[:-1], expected[-1:]
                target_logits[:, rows] = target_logit * _LN_2
                losses[:, rows] = total.log() + (top - target_logit) * _LN_2
                if not (need_hidden or need_weight or need_bias):
                    continue
                # Softmax times `total`, never divided: `1 / total` is folded into the small matrices instead, which
                # saves a pass over the chunk.
                inverse, minus_one = total.reciprocal().T, total * (label_smoothing - 1.0)  # (C, 1), (1, C)
                if share is not None:
                    inverse = inverse * share[rows]
                if grad_hidden is not None and sum_by_product:
                    torch.mul(expected.T, inverse, out=grad_hidden[rows])
                elif grad_hidden is not None:
                    grad_hidden[rows] = 0.0
                normalised = (states[rows] * inverse).to(dtype)
                for part in items.blocks:
                    local, taken = targets_c, minus_one
                    if several:
                        local, inside = within_block(targets_c, part)
                        taken = torch.where(inside, minus_one, 0.0)
                    exps = items.exponentials(states_c, part, top) if several else items.tile(part, len(states_c))
                    if grad_hidden is not None and not sum_by_product:
                        grad_hidden[rows] += (items.table[part].T @ exps.to(dtype)).T * inverse
                    exps.scatter_add_(0, local, taken)
                    factors, in_table = exps.to(dtype), slice(part.start + 1, part.stop + 1)
                    if grad_weight is not None:
                        if dtype == wide:
                            grad_weight[in_table].addmm_(factors, normalised)
                        else:
                            grad_weight[in_table] += factors @ normalised
                    if grad_bias is not None:
                        grad_bias[in_table].addmv_(exps, inverse.squeeze(1))

            if grad_hidden is not None:
                of_target = items.table.index_select(0, targets.squeeze(0))
                grad_hidden.sub_(of_target if share is None else of_target * share, alpha=1.0 - label_smoothing)
            if label_smoothing:
                # The uniform part is linear in the logits: it needs the mean item only, not the chunks.
                mean_item = items.table.mean(0, dtype=wide)  # (D,)
                mean_logit = states.to(wide) @ mean_item  # (N,)
                if items.bias is not None:
                    mean_logit += items.bias.mean() * _LN_2
                losses.add_(target_logits - mean_logit, alpha=label_smoothing)
                if grad_hidden is not None:
                    grad_hidden.sub_(mean_item if share is None else mean_item * share, alpha=label_smoothing)
                if grad_weight is not None:
                    states = states if share is None else states * share
                    grad_weight[1:].sub_(states.sum(0, dtype=wide), alpha=label_smoothing / num_items)
                if grad_bias is not None:
                    total_share = num_positions if share is None else share.sum()
                    grad_bias[1:].sub_(label_smoothing * total_share / num_items)

        ctx.save_for_backward(grad_hidden, grad_weight, grad_bias)
        ctx.total_share = num_positions if share is None else share.sum()
        ctx.dtypes = (hidden.dtype, weight.dtype, None if bias is None else bias.dtype)
        return losses.mean() if share is None else (losses @ share).squeeze() / ctx.total_share

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        scale = grad_output / ctx.total_share
        gradients: list[Tensor | None] = []
        for gradient, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True):
            if gradient is not None:
                # In place where torch frees them after this pass: a copy of the table's would be as large as the table.
                gradient = (gradient * scale if _graph_is_kept() else gradient.mul_(scale)).to(dtype)
            gradients.append(gradient)
        return (*gradients, None, None, None, None, None, None)


def _products_are_exact(device: torch.device) -> bool:
    """Not where products of float32 may round their inputs (TF32, bfloat16): fine for gradients, not for a sum whose
    logarithm is the loss."""
    return device.type == "cpu" and torch.get_float32_matmul_precision() == "highest"


def _graph_is_kept() -> bool:
    """Whether the running backward pass was called with `retain_graph=True`; yes where this torch can't tell."""
    ask = getattr(torch._C._autograd, "_get_current_graph_task_keep_graph", None)
    return True if ask is None else bool(ask())
