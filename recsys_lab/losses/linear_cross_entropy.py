"""Cross-entropy of a linear classifier without the (N, V) matrix of logits.

The idea of Wijmans et al. 2025, "Cut Your Losses in Large-Vocabulary Language Models", and of fused linear
cross-entropy kernels: the softmax of a chunk of positions is used up at once for its part of the gradients, so that
only one chunk of logits lives at a time. What differs: plain torch on chunks of positions instead of a GPU kernel
over tiles of the vocabulary, no filtering of small gradients (the result is exact), and the gradients are made in the
forward pass, so that logits are computed once.

On CPU this is faster than the full matrix as well, since a chunk of logits stays in the cache between its passes.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# Logits per chunk. CPU: 2.5 M floats = 10 MB, the fastest of 0.8 .. 95 MB for V = 1,682, 3,416 and 12,101 at D = 64 on
# two cores (below it the matrix products get too thin, above it the chunk leaves the cache). Elsewhere: 256 MB, enough
# work per kernel launch.
_CHUNK_ELEMENTS = {"cpu": 2_500_000}
_CHUNK_ELEMENTS_ELSEWHERE = 64_000_000
_SMALLEST_CHUNK = 128


def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    target_ids: Tensor,
    bias: Tensor | None = None,
    *,
    label_smoothing: float = 0.0,
    chunk_size: int | None = None,
) -> Tensor:
    """Mean cross-entropy over items 1..V-1 of `hidden @ weight.T + bias`; row 0 (padding) takes no part.

    Gradients flow to hidden, weight and bias (dense; row 0 gets zeros). They are computed here and not in the backward
    pass, hence only where gradients are on. Not twice differentiable.

    Under autocast the products run in its dtype and everything else in float32; float16 is computed in float32, since
    gradients made here know nothing of a loss scale that would keep small ones from vanishing.

    Args:
        hidden: (N, D) float.
        weight: (V, D) float.
        target_ids: (N,) int64 in 1..V-1; others are an index error.
        bias: (V,) float or None.
        label_smoothing: share of the target's weight that is spread over all V-1 items, as in
            `torch.nn.functional.cross_entropy`.
        chunk_size: positions per chunk; None takes one that fits V and the device.

    Returns:
        Scalar, in float32 (float64 for float64 inputs).
    """
    return _LinearCrossEntropy.apply(
        hidden, weight, bias, target_ids, label_smoothing, chunk_size, torch.is_grad_enabled()
    )


def _compute_dtype(hidden: Tensor, weight: Tensor) -> torch.dtype:
    dtype = torch.promote_types(hidden.dtype, weight.dtype)
    if dtype != torch.float64 and torch.is_autocast_enabled(hidden.device.type):
        dtype = torch.get_autocast_dtype(hidden.device.type)
    return torch.float32 if dtype == torch.float16 else dtype


def _even_chunk(num_positions: int, num_items: int, device: str, chunk_size: int | None) -> int:
    """Positions per chunk; the default is evened out so that no thin chunk is left at the end."""
    if chunk_size is not None:
        return min(chunk_size, max(num_positions, 1))
    elements = _CHUNK_ELEMENTS.get(device, _CHUNK_ELEMENTS_ELSEWHERE)
    largest = max(elements // num_items, _SMALLEST_CHUNK)
    return max(math.ceil(num_positions / max(math.ceil(num_positions / largest), 1)), 1)


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        target_ids: Tensor,
        label_smoothing: float,
        chunk_size: int | None,
        with_gradients: bool,
    ) -> Tensor:
        need_hidden, need_weight, need_bias = (with_gradients and need for need in ctx.needs_input_grad[:3])
        dtype = _compute_dtype(hidden, weight)
        device = hidden.device
        with torch.autocast(device.type, enabled=False):
            wide = torch.float64 if dtype == torch.float64 else torch.float32  # of sums and gradients
            states, table = hidden.to(dtype), weight[1:].to(dtype)  # (N, D), (V-1, D)
            item_bias = None if bias is None else bias[1:].to(wide)  # (V-1,)
            targets = (target_ids - 1).unsqueeze(1)  # (N, 1)
            num_positions, num_items = states.shape[0], table.shape[0]
            chunk = _even_chunk(num_positions, num_items, device.type, chunk_size)

            losses = torch.empty(num_positions, dtype=wide, device=device)
            target_logits = torch.empty(num_positions, 1, dtype=wide, device=device)
            grad_hidden = torch.empty(states.shape, dtype=wide, device=device) if need_hidden else None
            grad_weight = torch.zeros(weight.shape, dtype=wide, device=device) if need_weight else None
            grad_bias = torch.zeros(weight.shape[0], dtype=wide, device=device) if need_bias else None
            buffer = torch.empty(chunk, num_items, dtype=wide, device=device)

            for start in range(0, num_positions, chunk):
                rows = slice(start, start + chunk)
                states_c, targets_c = states[rows], targets[rows]
                logits = buffer[: states_c.shape[0]]  # (C, V-1)
                if dtype == wide:
                    torch.mm(states_c, table.T, out=logits)
                else:
                    logits.copy_(states_c @ table.T)
                if item_bias is not None:
                    logits += item_bias
                torch.gather(logits, 1, targets_c, out=target_logits[rows])  # (C, 1)
                top = logits.amax(1, keepdim=True)
                # `logits` is turned in place into softmax times `total`, never divided: `1 / total` is
                # folded into the small matrices instead, which saves a pass over the chunk.
                exps = logits.sub_(top).exp_()
                total = exps.sum(1, keepdim=True)
                losses[rows] = (top - target_logits[rows]).add_(total.log()).squeeze(1)
                if not (need_hidden or need_weight or need_bias):
                    continue
                exps.scatter_add_(1, targets_c, total * (label_smoothing - 1.0))
                inverse = total.reciprocal_()
                factors = exps.to(dtype)
                if grad_hidden is not None:
                    torch.mul(factors @ table, inverse, out=grad_hidden[rows])
                if grad_weight is not None:
                    scaled = (states_c * inverse).to(dtype)
                    if dtype == wide:
                        grad_weight[1:].addmm_(factors.T, scaled)
                    else:
                        grad_weight[1:].add_(factors.T @ scaled)
                if grad_bias is not None:
                    grad_bias[1:].addmv_(exps.T, inverse.squeeze(1))

            if label_smoothing:
                # The uniform part is linear in the logits: it needs the mean item only, not the chunks.
                mean_item = table.to(wide).mean(0)  # (D,)
                mean_logit = states.to(wide) @ mean_item  # (N,)
                if item_bias is not None:
                    mean_logit = mean_logit + item_bias.mean()
                losses.add_(target_logits.squeeze(1) - mean_logit, alpha=label_smoothing)
                if grad_hidden is not None:
                    grad_hidden.sub_(mean_item, alpha=label_smoothing)
                if grad_weight is not None:
                    grad_weight[1:].sub_(states.to(wide).sum(0), alpha=label_smoothing / num_items)
                if grad_bias is not None:
                    grad_bias[1:].sub_(label_smoothing * num_positions / num_items)

        ctx.save_for_backward(grad_hidden, grad_weight, grad_bias)
        ctx.num_positions = num_positions
        ctx.dtypes = (hidden.dtype, weight.dtype, None if bias is None else bias.dtype)
        return losses.mean()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        scale = grad_output / ctx.num_positions
        gradients = [
            None if gradient is None else (gradient * scale).to(dtype)
            for gradient, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        ]
        return (*gradients, None, None, None, None)
