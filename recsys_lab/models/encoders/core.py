"""CORE: the state of a session is a weighted mean of its own item vectors, so that states and items share one space.

    w_s = softmax over s <= t of a linear map of a Transformer's state at s  (or 1 / (t + 1))
    h_t = sum of w_s x_s, of length 1; scores are cosines divided by a temperature

Paper: Hou et al. 2022, "CORE: Simple and Effective Session-based Recommendation within Consistent Representation
Space".

What differs from the paper: the house's pre-norm blocks, every position of a window is a target, and dropout on the
item vectors that are scored is left out: the scores of one item table serve every loss.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys_lab.arguments import Depth, DropShare, Positive, Size, check_divides
from recsys_lab.contracts import Batch, DataSpec, State
from recsys_lab.models.blocks.embedding import EventEmbedding
from recsys_lab.models.blocks.event_weights import EventWeights
from recsys_lab.models.blocks.layers import Dropout, Positions, TransformerBlock
from recsys_lab.models.blocks.relations import hidden_future
from recsys_lab.models.blocks.scoring import CosineScorer
from recsys_lab.models.lightning import NextItemModule


class CORE(NextItemModule):
    """CORE under any loss.

    Args:
        embedding_dim: D.
        weights: by a `transformer` (CORE-trm), or all alike: `mean` (CORE-ave).
        num_layers: Transformer blocks.
        num_heads: attention heads; must divide D.
        dropout: on the item vectors of the session, and on each block's branches.
        feed_forward_dim: inner width; None = 4 D.
        temperature: scores are cosines divided by it.
        base: loss, negatives, optimization, item vectors and more: see `NextItemModule`.
    """

    def __init__(
        self,
        embedding_dim: Size = 64,
        weights: Literal["transformer", "mean"] = "transformer",
        num_layers: Depth = 2,
        num_heads: Size = 2,
        dropout: DropShare = 0.2,
        feed_forward_dim: Size | None = None,
        temperature: Positive = 0.07,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        check_divides(self, "embedding_dim", embedding_dim, "num_heads", num_heads)

    def build(self, spec: DataSpec) -> None:
        s = self.settings
        dim, inner = s.embedding_dim, s.feed_forward_dim or 4 * s.embedding_dim
        self.embedding = EventEmbedding(spec, dim, std=dim**-0.5, target_fields=self.uses_target_fields)
        self.drop = Dropout(s.dropout)
        if s.weights == "transformer":
            self.positions, self.input_norm = Positions(spec.max_length, dim), nn.LayerNorm(dim)
            self.blocks = nn.ModuleList(
                TransformerBlock(dim, s.num_heads, inner, s.dropout, 0.0) for _ in range(s.num_layers)
            )
            self.norm, self.weigh = nn.LayerNorm(dim), nn.Linear(dim, 1, bias=False)
        self.scorer = CosineScorer(self.embedding.items, s.temperature)

    def encode(self, batch: Batch) -> Tensor:
        x = self.drop(self.embedding(batch))  # (B, L, D)
        logits = self._logits(x, batch) + hidden_future(x.shape[1], x.device)  # (1 or B, L, L)
        return F.normalize(logits.softmax(dim=2) @ x, dim=2)

    def event_weights(self, batch: Batch) -> EventWeights:
        logits = self._logits(self.drop(self.embedding(batch)), batch).squeeze(1)  # (B, L)
        weights = logits.masked_fill(~batch.valid_mask, float("-inf")).softmax(dim=1)
        return EventWeights(weights, "the weights of the events in the state, which is their weighted mean")

    def start(self, rows: int) -> State:
        """`mean` goes on from one sum without end, the other from keys, values, vectors and logits of earlier events,
        while the window is not full."""
        if self.settings.weights == "mean":
            return State(query=None, memory=torch.zeros(rows, self.settings.embedding_dim, device=self.device))
        return State(query=None, memory=([None] * len(self.blocks), None))

    def step(self, state: State, event: Batch) -> State | None:
        x = self.drop(self.embedding(event))  # (B, 1, D)
        if self.settings.weights == "mean":
            total = state.memory + x.squeeze(1)
            return State(query=F.normalize(total, dim=1), memory=total)
        past, before = state.memory
        place = 0 if before is None else before[0].shape[1]
        if place == len(self.positions.weight):
            return None
        states, kept = self.drop(self.input_norm(x + self.positions.weight[place])), []
        for block, of_block in zip(self.blocks, past, strict=True):
            assert isinstance(block, TransformerBlock)
            states, own = block.step(states, of_block)
            kept.append(own)
        logits = self.weigh(self.norm(states)).float()  # (B, 1, 1)
        if before is not None:
            x, logits = (torch.cat(pair, dim=1) for pair in zip(before, (x, logits), strict=True))  # (B, t, D or 1)
        query = F.normalize((logits.softmax(dim=1) * x).sum(dim=1), dim=1)
        return State(query=query, memory=(kept, (x, logits)))

    def _logits(self, x: Tensor, batch: Batch) -> Tensor:
        """Of the events: (B, 1, L)."""
        if self.settings.weights == "mean":
            return x.new_zeros(x.shape[0], 1, x.shape[1])
        states = self.drop(self.input_norm(x + self.positions(batch.lengths, x.shape[1])))
        for block in self.blocks:
            states = block(states)
        logits: Tensor = self.weigh(self.norm(states)).transpose(1, 2)
        return logits.float()
