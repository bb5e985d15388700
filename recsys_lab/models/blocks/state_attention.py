"""Attention from each state over the states up to it: how the models of sessions weigh what came before."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys_lab.models.module import last_position
from recsys_lab.words import RecsysLabError

Similarity = Literal["dot", "scaled_dot", "additive", "bilinear"]
ADDITIVE_BLOCK = 1 << 24
"""Additive attention needs (B, queries, L, D) numbers at once; queries are taken in blocks of about this many."""
BLOCKS = 8
"""At least so many."""


def by_blocks(weights: Callable[[int, int], Tensor], values: Tensor) -> Tensor:
    """(B, L, D) -> (B, L, D): the weighted sums of `values` for every position, some positions at a time, so that few
    later events are looked at in vain.

    Args:
        weights: (start, stop) -> (B, stop - start, stop) of the positions [start, stop), 0 at later events.
    """
    length = values.shape[1]
    rows = max(1, min(ADDITIVE_BLOCK // values.numel(), math.ceil(length / BLOCKS)))
    sums = []
    for start in range(0, length, rows):
        stop = min(start + rows, length)
        sums.append(weights(start, stop) @ values[:, :stop])
    return torch.cat(sums, dim=1)


def later_events(start: int, stop: int, device: torch.device) -> Tensor:
    """(stop - start, stop) bool: the events before `stop` that come after each of the positions [start, stop)."""
    column = torch.arange(stop, device=device)
    return column > column[start:, None]


class CausalStateAttention(nn.Module):
    """c_t = sum over s <= t of alpha_ts h_s.

    Args:
        dim: width of the states.
        similarity: of two states: `dot` h_t.h_s, `scaled_dot` h_t.h_s / sqrt(dim), `bilinear` h_t W h_s,
            `additive` v.tanh(W h_t + U h_s) (Bahdanau et al. 2015).
        narm: NARM's weights: additive with a sigmoid, alpha_ts = v.sigmoid(W h_t + U h_s), not normalised.
    """

    def __init__(self, dim: int, similarity: Similarity, narm: bool = False) -> None:
        super().__init__()
        if similarity not in ("dot", "scaled_dot", "additive", "bilinear"):
            raise RecsysLabError(f"unknown similarity {similarity!r}; known: dot, scaled_dot, additive, bilinear")
        self.similarity, self.narm = similarity, narm
        self.scale = dim**-0.5 if similarity == "scaled_dot" else 1.0
        self.additive = narm or similarity == "additive"
        if self.additive:
            self.query = nn.Linear(dim, dim, bias=False)
            self.key = nn.Linear(dim, dim, bias=False)
            self.v = nn.Linear(dim, 1, bias=False)
        elif similarity == "bilinear":
            self.query = nn.Linear(dim, dim, bias=False)

    def forward(self, states: Tensor) -> Tensor:
        """(B, L, dim) -> (B, L, dim)."""
        if self.additive:
            asks, key = self.query(states).unsqueeze(2), self.key(states).unsqueeze(1)  # (B, L, 1, dim), (B, 1, L, dim)
            return by_blocks(
                lambda i, j: self._additive_weights(asks[:, i:j], key[:, :, :j], later_events(i, j, key.device)), states
            )
        query = self.query(states) if self.similarity == "bilinear" else states
        return F.scaled_dot_product_attention(query, states, states, is_causal=True, scale=self.scale)

    def at_last(self, states: Tensor, lengths: Tensor) -> Tensor:
        """(B, L, dim), (B,) -> (B, dim): what `forward` gives at each row's last real event."""
        return (self.weights_at_last(states, lengths).unsqueeze(1) @ states).squeeze(1)

    def weights_at_last(self, states: Tensor, lengths: Tensor) -> Tensor:
        """alpha of each row's last real event: (B, L), 0 at padding."""
        last = last_position(states, lengths)  # (B, dim)
        future = torch.arange(states.shape[1], device=states.device) >= lengths[:, None]  # (B, L)
        if self.additive:
            return self._additive_weights(self.query(last).unsqueeze(1), self.key(states), future)
        query = self.query(last) if self.similarity == "bilinear" else last
        logits = (states @ query.unsqueeze(2)).squeeze(2) * self.scale  # (B, L)
        return logits.masked_fill(future, float("-inf")).softmax(dim=1)

    def _additive_weights(self, query: Tensor, key: Tensor, future: Tensor) -> Tensor:
        """(..., 1, dim), (..., L, dim), (..., L) -> (..., L)."""
        squash = torch.sigmoid if self.narm else torch.tanh
        logits: Tensor = self.v(squash(query + key)).squeeze(-1)
        return logits.masked_fill(future, 0.0) if self.narm else logits.masked_fill(future, float("-inf")).softmax(-1)
