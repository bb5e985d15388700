"""GatedBlock: a Transformer block whose branches pass a gate, with a SwiGLU feed-forward layer."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys_lab.models.blocks.layers import TransformerBlock


class GatedBlock(TransformerBlock):
    """x + sigmoid(G x) * attention(norm(x)), then the same with a feed-forward layer and a gate of its own.

    Borisyuk et al. 2025, "From Features to Transformers" (LiGR). The gates read the residual stream as it is.
    SwiGLU (Shazeer 2020): W3 (silu(W1 x) * W2 x), without biases.
    """

    def __init__(
        self, embedding_dim: int, num_heads: int, feed_forward_dim: int, dropout: float, attention_dropout: float
    ) -> None:
        super().__init__(embedding_dim, num_heads, feed_forward_dim, dropout, attention_dropout)
        self.expand = nn.Linear(embedding_dim, 2 * feed_forward_dim, bias=False)  # W1 and W2
        self.contract = nn.Linear(feed_forward_dim, embedding_dim, bias=False)
        self.attention_gate = nn.Linear(embedding_dim, embedding_dim)
        self.feed_forward_gate = nn.Linear(embedding_dim, embedding_dim)

    def _attended(self, x: Tensor, branch: Tensor) -> Tensor:
        return x + torch.sigmoid(self.attention_gate(x)) * self.dropout(branch)

    def _feed_forward(self, x: Tensor) -> Tensor:
        gate, value = self.expand(self.feed_forward_norm(x)).chunk(2, dim=-1)
        branch = self.contract(self.dropout(F.silu(gate) * value))
        return x + torch.sigmoid(self.feed_forward_gate(x)) * self.dropout(branch)
