"""GRU4Rec: a gated recurrent network over the window of events.

Papers: Hidasi et al. 2016, "Session-based Recommendations with Recurrent Neural Networks"; Hidasi & Karatzoglou 2018,
"Recurrent Neural Networks with Top-k Gains".

What differs from the papers: histories are windows with gradients through all of it (the papers: session-parallel
mini-batches, gradients through one step), the item embedding is always the tied output table, a linear layer brings a
wider state back to D, an optional residual connection around the network, Adam instead of Adagrad, and the loss is a
separate choice (the papers: TOP1, BPR-max).
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from recsys_lab.arguments import Depth, DropShare, Size
from recsys_lab.contracts import Batch, DataSpec
from recsys_lab.models.blocks.embedding import EventEmbedding
from recsys_lab.models.blocks.layers import Dropout
from recsys_lab.models.blocks.scoring import TiedScorer
from recsys_lab.models.lightning import NextItemModule


class GRUEncoder(nn.Module):
    """batch -> hidden (B, L, D)."""

    def __init__(
        self, spec: DataSpec, embedding_dim: int, hidden_dim: int, num_layers: int, dropout: float, residual: bool
    ) -> None:
        super().__init__()
        self.residual = residual
        self.embedding = EventEmbedding(spec, embedding_dim, std=embedding_dim**-0.5)
        self.input_dropout = Dropout(dropout)
        self.gru = nn.GRU(
            embedding_dim, hidden_dim, num_layers, batch_first=True, dropout=dropout if num_layers > 1 else 0.0
        )
        self.output_dropout = Dropout(dropout)
        self.project = nn.Linear(hidden_dim, embedding_dim) if hidden_dim != embedding_dim else nn.Identity()

    def forward(self, batch: Batch) -> Tensor:
        x = self.input_dropout(self.embedding(batch))  # (B, L, D)
        states, _ = self.gru(x)  # (B, L, hidden_dim); right padding comes after all that counts
        hidden: Tensor = self.project(self.output_dropout(states))  # (B, L, D)
        return x + hidden if self.residual else hidden


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
        base: loss, negatives, optimization, compile_model: see `NextItemModule`.
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
        self.embedding_dim, self.hidden_dim = embedding_dim, hidden_dim or embedding_dim
        self.num_layers, self.dropout = num_layers, dropout
        self.residual, self.item_bias = residual, item_bias

    def build(self, spec: DataSpec) -> None:
        self.encoder = GRUEncoder(
            spec, self.embedding_dim, self.hidden_dim, self.num_layers, self.dropout, self.residual
        )
        self.scorer = TiedScorer(self.encoder.embedding.items, bias=self.item_bias)

    def encode(self, batch: Batch) -> Tensor:
        hidden: Tensor = self.encoder(batch)
        return hidden
