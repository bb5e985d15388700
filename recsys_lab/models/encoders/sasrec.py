"""SASRec: a causal Transformer over the window of events.

Paper: Kang & McAuley 2018, "Self-Attentive Sequential Recommendation".

What differs from the paper: pre-norm blocks with a final norm (the paper normalises only the query of attention),
GELU and a wider feed-forward layer, dropout on the branches only, the loss is a separate choice (the paper: BCE with
one negative), and training uses every window of a history, not only its newest events. The width of 64 and the two
heads are defaults of this project (the paper: 50 and one).
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

from recsys_lab.arguments import Depth, DropShare, Size, check_divides
from recsys_lab.contracts import Batch, DataSpec, State
from recsys_lab.models.blocks.embedding import EventEmbedding
from recsys_lab.models.blocks.event_weights import EventWeights
from recsys_lab.models.blocks.layers import Dropout, NormPlace, Positions, TransformerBlock
from recsys_lab.models.blocks.scoring import TiedScorer
from recsys_lab.models.lightning import NextItemModule


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
        norm: before each branch and behind the last (`pre`), or behind each sum, that of the inputs too (`post`).
        base: loss, negatives, optimization, item vectors and more: see `NextItemModule`.
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
        norm: NormPlace = "pre",
        **base: Any,
    ) -> None:
        super().__init__(**base)
        s = self.settings  # those of a class below it among them
        check_divides(self, "embedding_dim", s.embedding_dim, "num_heads", s.num_heads)
        self.scale = math.sqrt(s.embedding_dim) if s.scale_embedding else 1.0
        self.encodes_prefixes = s.positions == "start"

    def build(self, spec: DataSpec) -> None:
        s = self.settings
        self.embedding = EventEmbedding(spec, s.embedding_dim, target_fields=self.uses_target_fields)
        self.positions = Positions(spec.max_length, s.embedding_dim, s.positions)
        self.drop = Dropout(s.dropout)
        self.blocks = nn.ModuleList(self.block() for _ in range(s.num_layers))
        self.norm = nn.LayerNorm(s.embedding_dim)
        self.scorer = TiedScorer(self.embedding.items)

    def block(self) -> nn.Module:
        s = self.settings
        inner = s.feed_forward_dim or 4 * s.embedding_dim
        return TransformerBlock(s.embedding_dim, s.num_heads, inner, s.dropout, s.attention_dropout, s.norm)

    def encode(self, batch: Batch) -> Tensor:
        x, bias = self._inputs(batch), self.attention_bias(batch)
        for block in self.blocks:
            x = block(x, bias)
        return self._left(x)

    def encode_last(self, batch: Batch) -> Tensor:
        """The last block computes no position but each row's last."""
        x, bias = self._inputs(batch), self.attention_bias(batch)
        *earlier, last = self.blocks
        for block in earlier:
            x = block(x, bias)
        assert isinstance(last, TransformerBlock)
        return self._left(last.at_last(x, batch.lengths, bias))

    def event_weights(self, batch: Batch) -> EventWeights:
        x, bias, found = self._inputs(batch), self.attention_bias(batch), []
        for block in self.blocks:
            assert isinstance(block, TransformerBlock)
            found.append(block.weights_at_last(x, batch.lengths, bias))
            x = block(x, bias)
        return EventWeights.of_attention(found)

    def start(self, rows: int) -> State | None:
        """Keys and values of earlier events are kept while the window is not full. Where positions are counted from its
        end each event moves them all, and there is nothing to keep."""
        return State(query=None, memory=(0, [None] * len(self.blocks), None)) if self.encodes_prefixes else None

    def step(self, state: State, event: Batch) -> State | None:
        place, past, times = state.memory
        if place == len(self.positions.weight):
            return None
        times = event.timestamps if times is None else torch.cat([times, event.timestamps], dim=1)  # (B, t)
        bias = self.bias_of_newest(times)
        x, kept = self._entered(self.embedding(event) * self.scale + self.positions.weight[place]), []  # (B, 1, D)
        for block, before in zip(self.blocks, past, strict=True):
            assert isinstance(block, TransformerBlock)
            x, own = block.step(x, before, bias)
            kept.append(own)
        return State(query=self._left(x).squeeze(1), memory=(place + 1, kept, times))

    def attention_bias(self, batch: Batch) -> Tensor | None:
        """(1 or B, H, L, L), added to the logits of attention; None = nothing."""
        return None

    def bias_of_newest(self, times: Tensor) -> Tensor | None:
        """Its last row, of a window's newest event: (1 or B, H, 1, t). times: (B, t) int64 seconds, up to that one."""
        return None

    def _inputs(self, batch: Batch) -> Tensor:
        x = self.embedding(batch) * self.scale  # (B, L, D)
        x = self.drop(self._entered(x + self.positions(batch.lengths, x.shape[1])))
        return x

    def _entered(self, x: Tensor) -> Tensor:
        """What the blocks begin with: where each sum is normed, the sum of items and positions is, too."""
        entered: Tensor = self.norm(x) if self.settings.norm == "post" else x
        return entered

    def _left(self, x: Tensor) -> Tensor:
        """What the blocks end with."""
        left: Tensor = self.norm(x) if self.settings.norm == "pre" else x
        return left
