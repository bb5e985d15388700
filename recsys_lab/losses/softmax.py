"""Softmax losses.

CrossEntropy: full softmax over the catalogue. As in GRU4Rec's `cross-entropy` (Hidasi et al. 2016, "Session-based
Recommendations with Recurrent Neural Networks") and in SASRec-CE (Klenitskiy & Vasilev 2023, "Turning Dross Into Gold
Loss: is BERT4Rec really better than SASRec?").
What differs from the papers: GRU4Rec takes the softmax over the items of the batch only; label smoothing and
temperature are additions, off by default; the logits of all positions are never in memory at once.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from recsys_lab.losses.linear_cross_entropy import linear_cross_entropy
from recsys_lab.schema import Loss, Negatives, RecsysLabError, Scorer


class CrossEntropy(Loss):
    """-log softmax of the target among items 1..num_items, mean over positions. Exact; takes no negatives.

    Args:
        label_smoothing: share of the target's weight spread over all items, in [0, 1).
        temperature: scores (bias included) are divided by it; > 0.
        chunk_size: positions whose logits are in memory at once; None takes one that fits num_items and the device.
    """

    def __init__(self, label_smoothing: float = 0.0, temperature: float = 1.0, chunk_size: int | None = None) -> None:
        super().__init__()
        if not 0.0 <= label_smoothing < 1.0:
            raise RecsysLabError(f"label_smoothing must be at least 0 and below 1, not {label_smoothing}")
        if not temperature > 0.0:
            raise RecsysLabError(f"temperature must be above 0, not {temperature}")
        if chunk_size is not None and chunk_size < 1:
            raise RecsysLabError(f"chunk_size must be at least 1, or null for the default, not {chunk_size}")
        self.label_smoothing = label_smoothing
        self.temperature = temperature
        self.chunk_size = chunk_size

    def forward(self, hidden: Tensor, target_ids: Tensor, scorer: Scorer, negatives: Negatives | None = None) -> Tensor:
        """hidden (N, D), target_ids (N,) in 1..num_items -> scalar float32."""
        weight = scorer.item_weight()
        if weight is None:  # scores that are no linear function of hidden: nothing to fuse
            logits = scorer.all_items(hidden)[:, 1:] / self.temperature  # (N, num_items)
            logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
            return F.cross_entropy(logits, target_ids - 1, label_smoothing=self.label_smoothing)
        bias = scorer.item_bias()
        if self.temperature != 1.0:
            hidden = hidden / self.temperature
            bias = None if bias is None else bias / self.temperature
        return linear_cross_entropy(
            hidden, weight, target_ids, bias, label_smoothing=self.label_smoothing, chunk_size=self.chunk_size
        )
