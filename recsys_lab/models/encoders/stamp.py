"""STAMP: attention over the events of a session, asked by the last event and by the mean of all; no recurrence.

    m_t      = mean of x_0 .. x_t
    alpha_ts = w0 . sigmoid(W1 x_s + W2 x_t + W3 m_t + b)
    a_t      = m_t + sum over s <= t of alpha_ts x_s
    out      = tanh(A a_t + b_A) * tanh(B x_t + b_B), scored by its product with the item vectors

Paper: Liu et al. 2018, "STAMP: Short-Term Attention/Memory Priority Model for Session-based Recommendation".

What differs from the paper: no sigmoid on the scores before the softmax, and the mean is added to the weighted sum, as
the authors' code does and the paper's formulas do not; every position of a window is a target (the paper: the last of
each prefix, which gives the same states); dropout is a setting, which the paper has not.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from recsys_lab.arguments import DropShare, Size
from recsys_lab.contracts import Batch, DataSpec, State
from recsys_lab.models.blocks.embedding import EventEmbedding
from recsys_lab.models.blocks.event_weights import EventWeights
from recsys_lab.models.blocks.layers import Dropout
from recsys_lab.models.blocks.scoring import TiedScorer
from recsys_lab.models.blocks.state_attention import by_blocks, later_events
from recsys_lab.models.lightning import NextItemModule
from recsys_lab.models.module import last_position


class STAMP(NextItemModule):
    """STAMP under any loss.

    Args:
        embedding_dim: D.
        dropout: on the inputs.
        base: loss, negatives, optimization, item vectors and more: see `NextItemModule`.
    """

    def __init__(self, embedding_dim: Size = 100, dropout: DropShare = 0.0, **base: Any) -> None:
        super().__init__(**base)

    def build(self, spec: DataSpec) -> None:
        dim, self.window = self.settings.embedding_dim, spec.max_length
        self.embedding = EventEmbedding(spec, dim, std=0.002, target_fields=self.uses_target_fields)
        self.drop = Dropout(self.settings.dropout)
        self.of_event = nn.Linear(dim, dim, bias=False)  # W1
        self.of_last = nn.Linear(dim, dim)  # W2, with the bias of all three
        self.of_mean = nn.Linear(dim, dim, bias=False)  # W3
        self.w0 = nn.Linear(dim, 1, bias=False)
        self.from_all, self.from_last = nn.Linear(dim, dim), nn.Linear(dim, dim)  # A, B
        for layer in (self.of_event, self.of_last, self.of_mean, self.w0, self.from_all, self.from_last):
            nn.init.normal_(layer.weight, std=0.05)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        self.scorer = TiedScorer(self.embedding.items)

    def encode(self, batch: Batch) -> Tensor:
        x, mean = self._inputs(batch)
        key, query = self.of_event(x), self.of_last(x) + self.of_mean(mean)  # (B, L, D)
        interest = (
            by_blocks(lambda i, j: self._alpha(key[:, :j], query[:, i:j], later_events(i, j, x.device)), x) + mean
        )
        return self._answer(interest, x)

    def encode_last(self, batch: Batch) -> Tensor:
        """Attention computes no position but each row's last."""
        x, means = self._inputs(batch)
        return self._of_last(x, last_position(means, batch.lengths), batch.lengths)

    def event_weights(self, batch: Batch) -> EventWeights:
        """alpha, without the mean that is added to what it weighs."""
        x, means = self._inputs(batch)
        last, mean = (last_position(values, batch.lengths) for values in (x, means))
        weights = self._alpha_at_last(x, last, mean, batch.lengths)  # (B, 1, L)
        return EventWeights.of_attention([weights])

    def start(self, rows: int) -> State:
        """The vectors of earlier events are kept, for attention, while the window is not full."""
        return State(query=None, memory=(None,))

    def step(self, state: State, event: Batch) -> State | None:
        (before,), x = state.memory, self.drop(self.embedding(event))  # (B, t, D), (B, 1, D)
        if before is not None:
            if before.shape[1] == self.window:
                return None
            x = torch.cat([before, x], dim=1)
        return State(query=self._of_last(x, x.mean(dim=1), torch.full_like(event.lengths, x.shape[1])), memory=(x,))

    def _of_last(self, x: Tensor, mean: Tensor, lengths: Tensor) -> Tensor:
        """Events (B, L, D), the means (B, D) of those up to the last real one, (B,) -> (B, D)."""
        last = last_position(x, lengths)  # (B, D)
        weights = self._alpha_at_last(x, last, mean, lengths)
        return self._answer((weights @ x).squeeze(1) + mean, last)

    def _alpha_at_last(self, x: Tensor, last: Tensor, mean: Tensor, lengths: Tensor) -> Tensor:
        """(B, L, D), the last events and the means (B, D), (B,) -> (B, 1, L), 0 at padding."""
        query = (self.of_last(last) + self.of_mean(mean)).unsqueeze(1)  # (B, 1, D)
        padding = torch.arange(x.shape[1], device=x.device) >= lengths[:, None, None]  # (B, 1, L)
        return self._alpha(self.of_event(x), query, padding)

    def _inputs(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The events and their running mean, (B, L, D) each."""
        x = self.drop(self.embedding(batch))
        return x, x.cumsum(dim=1) / torch.arange(1, x.shape[1] + 1, device=x.device).unsqueeze(1)

    def _alpha(self, key: Tensor, query: Tensor, left_out: Tensor) -> Tensor:
        """(B, L, D) events, (B, Q, D), (B or 1, Q, L) -> (B, Q, L) weights of the events."""
        weights: Tensor = self.w0(torch.sigmoid(key.unsqueeze(1) + query.unsqueeze(2))).squeeze(-1)
        return weights.masked_fill(left_out, 0.0)

    def _answer(self, interest: Tensor, last: Tensor) -> Tensor:
        return torch.tanh(self.from_all(interest)) * torch.tanh(self.from_last(last))
