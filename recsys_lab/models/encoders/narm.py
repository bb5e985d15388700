"""NARM: a GRU whose last state says what a session is after, and whose states, weighed by it, say what it was about.

    h_t      = GRU(h_{t-1}, x_t)
    alpha_ts = v . sigmoid(A1 h_t + A2 h_s)
    c_t      = [h_t ; sum over s <= t of alpha_ts h_s]
    out      = B c_t, scored by its product with the item vectors

Paper: Li et al. 2017, "Neural Attentive Session-based Recommendation". The defaults are those of its code.

What differs from the paper: every position of a window is a target (the paper: the last of each prefix, which gives the
same states), windows in place of whole sessions, and biases in the GRU (the paper's formulas have none).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from recsys_lab.arguments import Depth, DropShare, Size
from recsys_lab.contracts import Batch, DataSpec, State
from recsys_lab.models.blocks.embedding import EventEmbedding
from recsys_lab.models.blocks.event_weights import EventWeights
from recsys_lab.models.blocks.layers import Dropout
from recsys_lab.models.blocks.scoring import TiedScorer
from recsys_lab.models.blocks.state_attention import CausalStateAttention
from recsys_lab.models.lightning import NextItemModule
from recsys_lab.models.module import last_position


class NARM(NextItemModule):
    """NARM under any loss.

    Args:
        embedding_dim: D, width of the item table.
        hidden_dim: width of the recurrent state.
        num_layers: stacked GRU layers.
        dropout: on the inputs.
        state_dropout: on the joined states.
        base: loss, negatives, optimization, item vectors and more: see `NextItemModule`.
    """

    def __init__(
        self,
        embedding_dim: Size = 50,
        hidden_dim: Size = 100,
        num_layers: Depth = 1,
        dropout: DropShare = 0.25,
        state_dropout: DropShare = 0.5,
        **base: Any,
    ) -> None:
        super().__init__(**base)

    def build(self, spec: DataSpec) -> None:
        s = self.settings
        dim, width, self.window = s.embedding_dim, s.hidden_dim, spec.max_length
        self.embedding = EventEmbedding(spec, dim, std=dim**-0.5, target_fields=self.uses_target_fields)
        self.drop, self.state_drop = Dropout(s.dropout), Dropout(s.state_dropout)
        self.gru = nn.GRU(dim, width, s.num_layers, batch_first=True)
        self.attention = CausalStateAttention(width, "additive", narm=True)
        self.decode = nn.Linear(2 * width, dim, bias=False)
        self.scorer = TiedScorer(self.embedding.items)

    def encode(self, batch: Batch) -> Tensor:
        states = self._states(batch)
        return self._decoded(states, self.attention(states))  # (B, L, D)

    def encode_last(self, batch: Batch) -> Tensor:
        """Attention computes no position but each row's last."""
        states = self._states(batch)
        return self._decoded(last_position(states, batch.lengths), self.attention.at_last(states, batch.lengths))

    def event_weights(self, batch: Batch) -> EventWeights:
        weights = self.attention.weights_at_last(self._states(batch), batch.lengths)
        return EventWeights.of_attention([weights.unsqueeze(1)], "attention over the states of the GRU")

    def start(self, rows: int) -> State:
        """The states of earlier events are kept, for attention, while the window is not full."""
        return State(query=None, memory=(None, None))

    def step(self, state: State, event: Batch) -> State | None:
        recurrent, before = state.memory  # (num_layers, B, hidden_dim), (B, t, hidden_dim)
        if before is not None and before.shape[1] == self.window:
            return None
        newest, recurrent = self.gru(self.drop(self.embedding(event)), recurrent)
        states = newest if before is None else torch.cat([before, newest], dim=1)
        context = self.attention.at_last(states, torch.full_like(event.lengths, states.shape[1]))
        return State(query=self._decoded(newest.squeeze(1), context), memory=(recurrent, states))

    def _states(self, batch: Batch) -> Tensor:
        states, _ = self.gru(self.drop(self.embedding(batch)))  # (B, L, hidden_dim)
        return states

    def _decoded(self, states: Tensor, context: Tensor) -> Tensor:
        """(..., hidden_dim) twice -> (..., D)."""
        hidden: Tensor = self.decode(self.state_drop(torch.cat([states, context], dim=-1)))
        return hidden
