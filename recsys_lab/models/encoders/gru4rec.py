"""GRU4Rec: a gated recurrent network over the window of events.

Papers: Hidasi et al. 2016, "Session-based Recommendations with Recurrent Neural Networks"; Hidasi & Karatzoglou 2018,
"Recurrent Neural Networks with Top-k Gains".

What differs from the papers: histories are windows with gradients through all of it (the papers: session-parallel
mini-batches, gradients through one step), the item embedding is always the tied output table, a linear layer brings a
wider state back to D, an optional residual connection around the network, Adam instead of Adagrad, and the loss is a
separate choice (the papers: TOP1, BPR-max). The width of 64 is a default of this project (the papers: 100 and more).
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
from recsys_lab.models.lightning import NextItemModule
from recsys_lab.ops.last_gru_state import can_step, last_gru_state


class GRU4Rec(NextItemModule):
    """GRU4Rec under any loss.

    Args:
        embedding_dim: D, width of the item table.
        hidden_dim: width of the recurrent state; None = D.
        num_layers: stacked GRU layers.
        dropout: on the inputs, between layers and on the states.
        residual: add the event's own vector to the projected state, as Transformer blocks do: the state then has to
            learn only what the last item does not say. Matters on short, sparse histories.
        item_bias: learn a bias per item.
        base: loss, negatives, optimization, item vectors and more: see `NextItemModule`.
    """

    def __init__(
        self,
        embedding_dim: Size = 64,
        hidden_dim: Size | None = None,
        num_layers: Depth = 1,
        dropout: DropShare = 0.2,
        residual: bool = False,
        item_bias: bool = False,
        **base: Any,
    ) -> None:
        super().__init__(**base)

    def build(self, spec: DataSpec) -> None:
        s = self.settings
        dim, width = s.embedding_dim, s.hidden_dim or s.embedding_dim
        self.embedding = EventEmbedding(spec, dim, std=dim**-0.5, target_fields=self.uses_target_fields)
        self.drop = Dropout(s.dropout)
        between = s.dropout if s.num_layers > 1 else 0.0
        self.gru = nn.GRU(dim, width, s.num_layers, batch_first=True, dropout=between)
        self.project = nn.Linear(width, dim) if width != dim else nn.Identity()
        self.scorer = TiedScorer(self.embedding.items, bias=s.item_bias)

    def encode(self, batch: Batch) -> Tensor:
        x = self.drop(self.embedding(batch))  # (B, L, D)
        states, _ = self.gru(x)  # (B, L, hidden_dim); right padding comes after all that counts
        return self._hidden(x, states)

    def encode_last(self, batch: Batch) -> Tensor:
        """On a CPU only the events that there are."""
        known = isinstance(self.embedding, EventEmbedding)  # a subclass may have built others
        if self.training or not known or not can_step(self.gru, self.embedding.items.weight):
            return super().encode_last(batch)
        rows, place = self.embedding.distinct(batch)  # (R, D), (B, L)
        states = last_gru_state(self.gru, rows, place, batch.lengths)  # (B, hidden_dim)
        newest = place.gather(1, batch.lengths[:, None] - 1).squeeze(1)  # (B,)
        return self._hidden(rows[newest], states)

    def event_weights(self, batch: Batch) -> EventWeights:
        return EventWeights.of_gates(self.gru, self.drop(self.embedding(batch)), batch.lengths)

    def start(self, rows: int) -> State:
        zeros = torch.zeros(self.gru.num_layers, rows, self.gru.hidden_size, device=self.device)
        return State(query=None, memory=zeros)

    def step(self, state: State, event: Batch) -> State:
        x = self.embedding(event)  # (B, 1, D)
        states, memory = self.gru(x, state.memory)
        return State(query=self._hidden(x, states).squeeze(1), memory=memory)

    def _hidden(self, x: Tensor, states: Tensor) -> Tensor:
        """Inputs (..., D) and states (..., hidden_dim) -> (..., D)."""
        hidden: Tensor = self.project(self.drop(states))
        return x + hidden if self.settings.residual else hidden
