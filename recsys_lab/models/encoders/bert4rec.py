"""BERT4Rec: a Transformer that sees both sides of a masked event, trained to say which item was there.

Paper: Sun et al. 2019, "BERT4Rec: Sequential Recommendation with Bidirectional Encoder Representations from
Transformer". The defaults are those of its MovieLens-1M run, with the width of the project.

In training the target of a window's last event is appended to the window, and some events are masked: those are the
targets. To predict, one masked event is appended to the history. The mask is a vector of the model's own, outside the
item table.

What differs from the paper: pre-norm blocks with a final norm; masks are drawn anew for each batch (the paper: ten
copies of the data with masks drawn once); `last_share` of the windows have their last event masked and no other, and
so have windows in which none was drawn (the paper adds such windows once for each user); masked are only events that
the data gives as targets, so never a window's first.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys_lab.arguments import Depth, DropShare, Level, Share, Size, check_divides
from recsys_lab.contracts import Batch, DataSpec
from recsys_lab.models.blocks.embedding import EventEmbedding
from recsys_lab.models.blocks.event_weights import EventWeights
from recsys_lab.models.blocks.layers import Dropout, Positions, TransformerBlock
from recsys_lab.models.blocks.masking import is_masked, one_more, with_masks
from recsys_lab.models.blocks.scoring import TiedScorer
from recsys_lab.models.lightning import NextItemModule
from recsys_lab.models.module import last_position
from recsys_lab.words import PAD_ID


class BERT4Rec(NextItemModule):
    """BERT4Rec under any loss.

    Args:
        embedding_dim: D.
        num_layers: Transformer blocks.
        num_heads: attention heads; must divide D.
        dropout: on the embedding and on each block's branches.
        attention_dropout: on attention weights; leaves the fast attention kernel on CPU.
        mask_share: probability that an event is masked.
        last_share: share of the windows of which only the last event is masked, as in prediction.
        positions: learned positions counted from the window's `start` or `end`.
        base: loss, negatives, optimization, item vectors and more: see `NextItemModule`.
    """

    causal = False
    last_positions_only = False  # what it is to predict is masked, wherever it stands

    def __init__(
        self,
        embedding_dim: Size = 64,
        num_layers: Depth = 2,
        num_heads: Size = 2,
        dropout: DropShare = 0.1,
        attention_dropout: DropShare = 0.0,
        mask_share: Level = 0.2,
        last_share: Share = 0.1,
        positions: Literal["start", "end"] = "start",
        **base: Any,
    ) -> None:
        super().__init__(**base)
        check_divides(self, "embedding_dim", embedding_dim, "num_heads", num_heads)

    def build(self, spec: DataSpec) -> None:
        s = self.settings
        dim = s.embedding_dim
        self.embedding = EventEmbedding(spec, dim)
        self.mask_vector = nn.Parameter(0.02 * torch.randn(dim))
        self.positions = Positions(spec.max_length + 1, dim, s.positions)
        self.drop = Dropout(s.dropout)
        self.blocks = nn.ModuleList(
            TransformerBlock(dim, s.num_heads, 4 * dim, s.dropout, s.attention_dropout) for _ in range(s.num_layers)
        )
        self.norm = nn.LayerNorm(dim)
        self.head, self.head_norm = nn.Linear(dim, dim), nn.LayerNorm(dim)
        self.scorer = TiedScorer(self.embedding.items, bias=True)

    def training_batch(self, batch: Batch, draws: torch.Generator | None) -> Batch:
        """The window and the target of its last event, (B, L + 1), with masks; the masked items are the targets."""
        whole = self._one_more(batch, last_position(batch.target_ids, batch.lengths))
        targets = F.pad(batch.target_ids != PAD_ID, (1, 0))  # (B, L + 1) bool
        chance = torch.rand(targets.shape, generator=draws, device=targets.device)
        alone = torch.rand(len(batch), generator=draws, device=targets.device) < self.settings.last_share
        masked = targets & (chance < self.settings.mask_share) & ~alone[:, None]
        later = targets.flip(1).cumsum(dim=1).flip(1)  # how many of a row's targets stand there or after it
        masked |= targets & (later == 1) & ~masked.any(dim=1, keepdim=True)
        return with_masks(whole, masked, self.uses_target_fields)

    def _one_more(self, batch: Batch, item_ids: Tensor | None = None) -> Batch:
        return one_more(batch, self.uses_target_fields, self.uses_query_time, item_ids)

    def encode(self, batch: Batch) -> Tensor:
        """-> (B, L, D); an event without an item (`PAD_ID` where `valid_mask` is True) is a masked one."""
        x = self.embedding(batch) + is_masked(batch).unsqueeze(2) * self.mask_vector  # (B, L, D)
        return self._head(self._through(x, batch, self.blocks))

    def encode_last(self, batch: Batch) -> Tensor:
        """The state of a masked event that is appended to each history."""
        batch = self._one_more(batch)
        x = self.embedding(batch) + is_masked(batch).unsqueeze(2) * self.mask_vector
        *earlier, last = self.blocks
        assert isinstance(last, TransformerBlock)
        return self._head(last.at_last(self._through(x, batch, earlier), batch.lengths))

    def event_weights(self, batch: Batch) -> EventWeights:
        """Those of the masked event, without what it gives itself."""
        batch = self._one_more(batch)
        x, found = self.embedding(batch) + is_masked(batch).unsqueeze(2) * self.mask_vector, []
        for place, block in enumerate(self.blocks):
            assert isinstance(block, TransformerBlock)
            found.append(block.weights_at_last(self._through(x, batch, self.blocks[:place]), batch.lengths))
        of_events = ~is_masked(batch)[:, None]  # (B, 1, L + 1)
        return EventWeights.of_attention([(weights * of_events)[:, :, :-1] for weights in found])

    def _through(self, x: Tensor, batch: Batch, blocks: Any) -> Tensor:
        x = self.drop(x + self.positions(batch.lengths, x.shape[1]))
        seen = batch.valid_mask[:, None, None]  # (B, 1, 1, L): every real event sees all real events
        for block in blocks:
            x = block(x, seen)
        return x

    def _head(self, x: Tensor) -> Tensor:
        hidden: Tensor = self.head_norm(F.gelu(self.head(self.norm(x))))
        return hidden
