"""The state of a GRU behind each row's last event, for evaluation on a CPU: the same numbers as `torch.nn.GRU` gives
there, about twice as fast.

`torch.nn.GRU` multiplies the input of every event, padding too, and steps through all rows to the end. Here an input
that many events share is multiplied once, and a row takes part in a step as long as it has an event for it. A step's
numbers stay in the cache.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def can_step(gru: nn.GRU, x: Tensor) -> bool:
    """Whether `last_gru_state` can take the place of `gru`: one layer, no gradients, and nobody who traces or hooks."""
    plain = type(gru) is nn.GRU and gru.num_layers == 1 and gru.bias and not (gru.bidirectional or gru._forward_hooks)
    traced = torch.compiler.is_compiling() or torch.compiler.is_exporting()
    return plain and x.device.type == "cpu" and not (torch.is_grad_enabled() or traced)


def last_gru_state(gru: nn.GRU, rows: Tensor, place: Tensor, lengths: Tensor) -> Tensor:
    """States of a GRU with one layer and biases, without gradients.

    Args:
        gru: input D, state H.
        rows: (R, D) distinct inputs.
        place: (B, L) int64, which of them each event has; anything that exists at padding, which is on the right.
        lengths: (B,) int64, from 1.

    Returns:
        (B, H), behind event `lengths[b]` of row b.
    """
    width, (weight_in, weight, bias_in, bias) = gru.hidden_size, gru.all_weights[0]
    of_rows = F.linear(rows, weight_in, bias_in)  # (R, 3 H): reset, update, new
    order = lengths.argsort(descending=True, stable=True)
    at_step = place.index_select(0, order).T.contiguous()  # (L, B)
    active = (lengths[:, None] > torch.arange(place.shape[1])).sum(0).tolist()  # (L,) the first of `order`
    states = rows.new_zeros(len(lengths), width)
    for items, many in zip(at_step, active, strict=True):
        if not many:
            break
        state = states[:many]
        of_input = of_rows.index_select(0, items[:many])
        of_state = F.linear(state, weight, bias)
        reset, update = of_state[:, : 2 * width].add_(of_input[:, : 2 * width]).sigmoid_().split(width, dim=1)
        new = of_state[:, 2 * width :].mul_(reset).add_(of_input[:, 2 * width :]).tanh_()
        state.sub_(new).mul_(update).add_(new)
    return torch.empty_like(states).index_copy_(0, order, states)
