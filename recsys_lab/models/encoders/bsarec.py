"""BSARec: self-attention beside a filter that keeps low frequencies and rescales the high ones.

    filter(x) = low(x) + beta^2 (x - low(x))
    block(x)  = ff(alpha norm(x + filter(x)) + (1 - alpha) norm(x + attention(x)))

Paper: Shin et al. 2024, "An Attentive Inductive Bias for Sequential Recommendation beyond the Self-Attention". The
defaults are those of its runs on Amazon Beauty.

Attention is causal, the filter is not: as in `encoders/fmlprec.py`, it trains on `last_position` windows, and histories
stand at the end of a window of `--data.max_length` events.

What differs from the paper: padding is masked in attention by minus infinity (the authors' code: by -10000, so that an
event of padding sees all of them). Weights of attention are not dropped out (there: half of them), and a first event is
no target (there: each history is also asked for its first item, after nothing).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from recsys_lab.arguments import Depth, DropShare, Share, Size, check_divides
from recsys_lab.contracts import Batch
from recsys_lab.models.blocks.event_weights import EventWeights
from recsys_lab.models.blocks.layers import CausalSelfAttention
from recsys_lab.models.blocks.spectral import LowPass, from_the_end
from recsys_lab.models.encoders.fmlprec import FilterBlock, FMLPRec


class AttentiveFilterBlock(FilterBlock):
    """Args: size: events of a window. cutoff: cutoff // 2 + 1 frequencies are low. Others: as `BSARec` says."""

    def __init__(self, size: int, cutoff: int, dim: int, num_heads: int, alpha: float, dropout: float) -> None:
        super().__init__(LowPass(size, cutoff // 2 + 1), dim, dropout)
        self.attention, self.attention_norm = CausalSelfAttention(dim, num_heads), nn.LayerNorm(dim, eps=1e-12)
        self.beta, self.alpha = nn.Parameter(torch.randn(dim)), alpha

    def forward(self, x: Tensor, seen: Tensor | None = None) -> Tensor:
        """(B, size, D), (B, 1, size, size) bool -> (B, size, D)."""
        low = self.mix(x)
        filtered = self.mix_norm(self.dropout(low + self.beta**2 * (x - low)) + x)
        attended = self.attention_norm(self.dropout(self.attention(x, seen)) + x)
        return self._feed_forward(self.alpha * filtered + (1 - self.alpha) * attended)


class BSARec(FMLPRec):
    """BSARec under any loss.

    Args:
        embedding_dim: D.
        num_layers: blocks.
        num_heads: attention heads; must divide D.
        dropout: on the inputs and on each block's branches.
        alpha: share of the filter; the rest is attention's.
        cutoff: cutoff // 2 + 1 frequencies count as low.
        base: loss, negatives, optimization, item vectors and more: see `NextItemModule`.
    """

    def __init__(
        self,
        embedding_dim: Size = 64,
        num_layers: Depth = 2,
        num_heads: Size = 1,
        dropout: DropShare = 0.5,
        alpha: Share = 0.7,
        cutoff: Size = 5,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        check_divides(self, "embedding_dim", embedding_dim, "num_heads", num_heads)

    def block(self) -> nn.Module:
        s = self.settings
        return AttentiveFilterBlock(self.size, s.cutoff, s.embedding_dim, s.num_heads, s.alpha, s.dropout)

    def encode(self, batch: Batch) -> Tensor:
        x, seen = self._whole_window(batch), self._seen(batch)
        for block in self.blocks:
            x = block(x, seen)
        return from_the_end(x, batch.lengths, batch.item_ids.shape[1])

    def event_weights(self, batch: Batch) -> EventWeights:
        """Of attention alone: the filter beside it has none."""
        x, seen, found = self._whole_window(batch), self._seen(batch), []
        ends = torch.full_like(batch.lengths, self.size)
        for block in self.blocks:
            assert isinstance(block, AttentiveFilterBlock)
            hidden = torch.zeros(seen.shape, device=x.device).masked_fill(~seen, float("-inf"))
            weights = block.attention.weights_at_last(x, ends, hidden)  # (B, H, size)
            found.append(from_the_end(weights.transpose(1, 2), batch.lengths, batch.item_ids.shape[1]).transpose(1, 2))
            x = block(x, seen)
        valid = batch.valid_mask[:, None]  # (B, 1, L)
        return EventWeights.of_attention([weights * valid for weights in found])

    def _seen(self, batch: Batch) -> Tensor:
        """(B, 1, size, size) bool: which events each position attends to."""
        device = batch.lengths.device
        place = torch.arange(self.size, device=device)
        earlier = place[:, None] >= place  # (size, size)
        real = place >= self.size - batch.lengths[:, None, None]  # (B, 1, size)
        return ((real & earlier) | torch.eye(self.size, dtype=torch.bool, device=device)).unsqueeze(1)
