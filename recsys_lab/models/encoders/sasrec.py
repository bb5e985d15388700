"""SASRec: a causal Transformer over the window of events.

Paper: Kang & McAuley 2018, "Self-Attentive Sequential Recommendation".

What differs from the paper: pre-norm blocks with a final norm (the paper normalises only the query of attention),
GELU and a wider feed-forward layer, dropout on the branches only, the loss is a separate choice (the paper: BCE with
one negative), and training uses every window of a history, not only its newest events.
"""

from __future__ import annotations

import math
from typing import Any, Literal

from torch import Tensor, nn

from recsys_lab.arguments import Depth, DropShare, Size
from recsys_lab.contracts import Batch, DataSpec
from recsys_lab.models.blocks.embedding import EventEmbedding
from recsys_lab.models.blocks.layers import Dropout, Positions, TransformerBlock
from recsys_lab.models.blocks.scoring import TiedScorer
from recsys_lab.models.lightning import NextItemModule
from recsys_lab.words import ArgumentError


class SASRecEncoder(nn.Module):
    """batch -> hidden (B, L, D)."""

    def __init__(
        self,
        spec: DataSpec,
        embedding_dim: int,
        num_layers: int,
        num_heads: int,
        dropout: float,
        attention_dropout: float,
        feed_forward_dim: int,
        positions: Literal["start", "end"],
        scale_embedding: bool,
    ) -> None:
        super().__init__()
        self.embedding = EventEmbedding(spec, embedding_dim)
        self.positions = Positions(spec.max_length, embedding_dim, positions)
        self.scale = math.sqrt(embedding_dim) if scale_embedding else 1.0
        self.dropout = Dropout(dropout)
        self.blocks = nn.ModuleList(
            TransformerBlock(embedding_dim, num_heads, feed_forward_dim, dropout, attention_dropout)
            for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(embedding_dim)

    def forward(self, batch: Batch) -> Tensor:
        x = self._embed(batch)
        for block in self.blocks:
            x = block(x)
        hidden: Tensor = self.norm(x)
        return hidden

    def at_last(self, batch: Batch) -> Tensor:
        """-> (B, D): `forward` at each row's last real event, for which the last block computes no other position."""
        x = self._embed(batch)
        *earlier, last = self.blocks
        for block in earlier:
            x = block(x)
        assert isinstance(last, TransformerBlock)
        hidden: Tensor = self.norm(last.at_last(x, batch.lengths))
        return hidden

    def _embed(self, batch: Batch) -> Tensor:
        x = self.embedding(batch) * self.scale  # (B, L, D)
        x = self.dropout(x + self.positions(batch.lengths, x.shape[1]))
        return x


class SASRec(NextItemModule):
    """SASRec under any loss.

    Args:
        embedding_dim: D.
        num_layers: Transformer blocks.
        num_heads: attention heads; must divide D.
        dropout: on the embedding and on each block's branches.
        attention_dropout: on attention weights; leaves the fast attention kernel on CPU (about 3x slower).
        feed_forward_dim: inner width; None = 4 D (the paper: D).
        positions: learned positions counted from the window's `start` or `end`.
        scale_embedding: multiply item vectors by sqrt(D) before the positions are added.
        base: loss, negatives, optimization, compile_model: see `NextItemModule`.
    """

    def __init__(
        self,
        embedding_dim: Size = 64,
        num_layers: Depth = 2,
        num_heads: Size = 2,
        dropout: DropShare = 0.2,
        attention_dropout: DropShare = 0.0,
        feed_forward_dim: Size | None = None,
        positions: Literal["start", "end"] = "start",
        scale_embedding: bool = True,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        if embedding_dim % num_heads:
            raise ArgumentError(
                "SASRec", "num_heads", f"must divide embedding_dim {embedding_dim}, not {num_heads}", num_heads
            )
        self.embedding_dim, self.num_layers, self.num_heads = embedding_dim, num_layers, num_heads
        self.dropout, self.attention_dropout = dropout, attention_dropout
        self.feed_forward_dim = feed_forward_dim or 4 * embedding_dim
        self.position_origin, self.scale_embedding = positions, scale_embedding
        self.encodes_prefixes = positions == "start"

    def build(self, spec: DataSpec) -> None:
        self.encoder = SASRecEncoder(
            spec,
            self.embedding_dim,
            self.num_layers,
            self.num_heads,
            self.dropout,
            self.attention_dropout,
            self.feed_forward_dim,
            self.position_origin,
            self.scale_embedding,
        )
        self.scorer = TiedScorer(self.encoder.embedding.items)

    def encode(self, batch: Batch) -> Tensor:
        hidden: Tensor = self.encoder(batch)
        return hidden

    def query(self, batch: Batch) -> Tensor:
        own = type(self).encode is not SASRec.encode  # a subclass with an encoder of its own
        if own or (batch.prefix_of is not None and self.shares_prefixes):
            return super().query(batch)
        return self.encoder.at_last(batch)
