"""TiSASRec: SASRec whose attention knows how much time lies between two events.

Paper: Li et al. 2020, "Time Interval Aware Self-Attention for Sequential Recommendation".

What differs from the paper: an interval falls into one of `num_buckets` buckets, whose widths grow with its length, and
each bucket has one learned number for each head, which is added to the logits (the paper: two vectors for each interval
in units of the user's shortest one, added to keys and values: L x L x D numbers, and a unit that looks ahead);
positions are added to the inputs and not to keys and values; and otherwise as in `encoders/sasrec.py`.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from recsys_lab.arguments import Depth, DropShare, Size
from recsys_lab.contracts import Batch, DataSpec
from recsys_lab.models.blocks.relations import TimeBuckets, hidden_future, intervals
from recsys_lab.models.encoders.sasrec import SASRec


class TiSASRec(SASRec):
    """TiSASRec under any loss.

    Args:
        embedding_dim: D.
        num_layers: Transformer blocks.
        num_heads: attention heads; must divide D.
        dropout: on the embedding and on each block's branches.
        num_buckets: of intervals, each 1.35 times as long as the one before; the first is up to a second.
        base: those of `SASRec`, and loss, negatives, optimization and more: see `NextItemModule`.
    """

    def __init__(
        self,
        embedding_dim: Size = 50,
        num_layers: Depth = 2,
        num_heads: Size = 1,
        dropout: DropShare = 0.2,
        num_buckets: Size = 64,
        **base: Any,
    ) -> None:
        super().__init__(**base)

    def build(self, spec: DataSpec) -> None:
        super().build(spec)
        self.time = TimeBuckets(self.settings.num_buckets, self.settings.num_heads)

    def attention_bias(self, batch: Batch) -> Tensor:
        """(B, H, L, L), shared by the blocks as the paper's vectors are."""
        future = hidden_future(batch.item_ids.shape[1], batch.item_ids.device)
        bias: Tensor = self.time(intervals(batch)) + future
        return bias

    def bias_of_newest(self, times: Tensor) -> Tensor:
        bias: Tensor = self.time((times[:, -1:] - times).clamp_min(0).float().unsqueeze(1))  # (B, 1, t) -> (B, H, 1, t)
        return bias
