"""FMLPRec: learned filters of frequencies in place of attention, and feed-forward layers.

    block(x) = ff(norm(x + filter(x))), ff(y) = norm(y + linear(GELU(linear(y))))

Paper: Zhou et al. 2022, "Filter-enhanced MLP is All You Need for Sequential Recommendation".

A filter goes over the whole window, so what it gives at one event depends on later ones: the model is not causal. It
trains on windows whose last event alone has a target (`--data.training_mode last_position`: each prefix of a history
is a sample), as the paper does. Histories stand at the end of a window of `--data.max_length` events; where there is
no event, there is a position vector alone, as in the authors' code.

What differs from the paper: the loss is a separate choice (the paper: pairwise, with one negative).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys_lab.arguments import Depth, DropShare, Size
from recsys_lab.contracts import Batch, DataSpec
from recsys_lab.models.blocks.embedding import EventEmbedding
from recsys_lab.models.blocks.layers import Dropout
from recsys_lab.models.blocks.scoring import TiedScorer
from recsys_lab.models.blocks.spectral import LearnedFilter, from_the_end, to_the_end
from recsys_lab.models.lightning import NextItemModule


class FilterBlock(nn.Module):
    """Args: mix: what mixes the events of a window, (B, size, D) -> the same. dim: D. dropout: on both branches."""

    def __init__(self, mix: nn.Module, dim: int, dropout: float) -> None:
        super().__init__()
        self.mix, self.mix_norm = mix, nn.LayerNorm(dim, eps=1e-12)
        self.expand, self.contract = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)
        self.norm = nn.LayerNorm(dim, eps=1e-12)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, size, D) -> (B, size, D)."""
        return self._feed_forward(self._mixed(x))

    def _mixed(self, x: Tensor) -> Tensor:
        mixed: Tensor = self.mix_norm(self.dropout(self.mix(x)) + x)
        return mixed

    def _feed_forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(self.dropout(self.contract(F.gelu(self.expand(x)))) + x)
        return out


class FMLPRec(NextItemModule):
    """FMLPRec under any loss.

    Args:
        embedding_dim: D.
        num_layers: blocks.
        dropout: on the inputs and on each block's branches.
        base: loss, negatives, optimization, item vectors and more: see `NextItemModule`.
    """

    causal = False

    def __init__(self, embedding_dim: Size = 64, num_layers: Depth = 2, dropout: DropShare = 0.5, **base: Any) -> None:
        super().__init__(**base)

    def build(self, spec: DataSpec) -> None:
        s = self.settings
        self.size = spec.max_length
        self.embedding = EventEmbedding(spec, s.embedding_dim, target_fields=self.uses_target_fields)
        self.positions = nn.Parameter(0.02 * torch.randn(self.size, s.embedding_dim))
        self.norm, self.drop = nn.LayerNorm(s.embedding_dim, eps=1e-12), Dropout(s.dropout)
        self.blocks = nn.ModuleList(self.block() for _ in range(s.num_layers))
        self.scorer = TiedScorer(self.embedding.items)

    def block(self) -> nn.Module:
        s = self.settings
        return FilterBlock(LearnedFilter(self.size, s.embedding_dim), s.embedding_dim, s.dropout)

    def encode(self, batch: Batch) -> Tensor:
        x = self._whole_window(batch)
        for block in self.blocks:
            x = block(x)
        return from_the_end(x, batch.lengths, batch.item_ids.shape[1])  # (B, L, D)

    def _whole_window(self, batch: Batch) -> Tensor:
        """-> (B, size, D), the newest event last."""
        events = to_the_end(self.embedding(batch), batch.lengths, self.size)
        x: Tensor = self.drop(self.norm(events + self.positions))
        return x
