"""GatedBlock: a Transformer block whose branches pass a gate, with a SwiGLU feed-forward layer."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys_lab.models.blocks.layers import NormPlace, TransformerBlock

FeedForward = Literal["swiglu", "gelu"]


class GatedBlock(TransformerBlock):
    """x + sigmoid(G x) * attention(norm(x)), then the same with a feed-forward layer and a gate of its own.

    Borisyuk et al. 2025, "From Features to Transformers" (LiGR). The gates read the residual stream as it is.
    SwiGLU (Shazeer 2020): W3 (silu(W1 x) * W2 x), without biases.

    Args:
        feed_forward: `gelu` = that of `TransformerBlock`.
        gate: False = branches are added as they are.
    """

    def __init__(
        self,
        embedding_dim: int,
        num_heads: int,
        feed_forward_dim: int,
        dropout: float,
        attention_dropout: float,
        norm: NormPlace = "pre",
        feed_forward: FeedForward = "swiglu",
        gate: bool = True,
    ) -> None:
        super().__init__(embedding_dim, num_heads, feed_forward_dim, dropout, attention_dropout, norm)
        self.is_swiglu, self.is_gated = feed_forward == "swiglu", gate
        if self.is_swiglu:
            self.expand = nn.Linear(embedding_dim, 2 * feed_forward_dim, bias=False)  # W1 and W2
            self.contract = nn.Linear(feed_forward_dim, embedding_dim, bias=False)
        if gate:
            self.attention_gate = nn.Linear(embedding_dim, embedding_dim)
            self.feed_forward_gate = nn.Linear(embedding_dim, embedding_dim)

    def _attended(self, x: Tensor, branch: Tensor) -> Tensor:
        branch = self.dropout(branch)
        if self.is_gated:
            branch = torch.sigmoid(self.attention_gate(x)) * branch
        return self._closed(x + branch, self.attention_norm)

    def _feed_forward(self, x: Tensor) -> Tensor:
        hidden = self.expand(self._opened(x, self.feed_forward_norm))
        if self.is_swiglu:
            gate, value = hidden.chunk(2, dim=-1)
            hidden = self.dropout(F.silu(gate) * value)
        else:
            hidden = F.gelu(hidden)
        branch = self.dropout(self.contract(hidden))
        if self.is_gated:
            branch = torch.sigmoid(self.feed_forward_gate(x)) * branch
        return self._closed(x + branch, self.feed_forward_norm)
