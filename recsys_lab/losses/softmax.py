"""Softmax losses.

CrossEntropy: full softmax over the catalogue. As in GRU4Rec's `cross-entropy` (Hidasi et al. 2016, "Session-based
Recommendations with Recurrent Neural Networks") and in SASRec-CE (Klenitskiy & Vasilev 2023, "Turning Dross Into Gold
Loss: is BERT4Rec really better than SASRec?").
What differs from the papers: GRU4Rec takes the softmax over the items of the batch only; label smoothing and
temperature are additions, off by default; the logits of all positions are never in memory at once.

SampledSoftmax: Bengio & Senecal 2008, "Adaptive Importance Sampling to Accelerate Training of a Neural Probabilistic
Language Model"; the form with the target among the candidates and all logits corrected is that of Jean et al. 2015,
"On Using Very Large Target Vocabulary for Neural Machine Translation".
What differs from the papers: a fixed proposal, negatives that equal the target are left out, a temperature.
With `InBatchNegatives` it is the in-batch softmax of GRU4Rec, with the correction of Yi et al. 2019,
"Sampling-Bias-Corrected Neural Modeling for Large Corpus Item Recommendations".
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from recsys_lab.arguments import Count, DropShare, Positive
from recsys_lab.contracts import ItemBlock, Loss, Negatives, Scorer, candidate_ids
from recsys_lab.losses.by_parts import by_parts
from recsys_lab.losses.candidates import CandidateScores, SampledLoss, TakenRows, mean, wide
from recsys_lab.ops.linear_cross_entropy import linear_cross_entropy
from recsys_lab.ops.sharded_cross_entropy import sharded_cross_entropy
from recsys_lab.words import PAD_ID


class CrossEntropy(Loss):
    """-log softmax of the target among the candidates, mean over positions. Exact; takes no negatives.

    The candidates are the items with training events. Where that is not all of them, their rows are gathered into a
    table of their own at each step, and its gradient is as large: memory of twice the candidates' rows, and up to 2 %
    of the time (measured with 12,101 and 100,000 items of which 2.5 % have no training event).

    Args:
        label_smoothing: share of the target's weight spread over all items, in [0, 1).
        temperature: scores (bias included) are divided by it; > 0.
        chunk_size: positions whose logits are in memory at once; None takes one that fits num_items and the device.
        implementation: `chunked`; or `full`, the plain matrix of all logits, to check the other by.
    """

    compiles = False  # matrix products, in a number of chunks that torch.compile would compile one by one
    all_items = True

    def __init__(
        self,
        label_smoothing: DropShare = 0.0,
        temperature: Positive = 1.0,
        chunk_size: Count | None = None,
        implementation: Literal["chunked", "full"] = "chunked",
    ) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing
        self.temperature = temperature
        self.chunk_size = chunk_size
        self.implementation = implementation
        self.register_buffer("_rows", None, persistent=False)  # (C + 1,) padding and the candidates; None = all
        self.register_buffer("_place", None, persistent=False)  # (V,) where each stands among them

    def prepare(self, item_counts: Tensor) -> None:
        """item_counts: (V,) events per item in the training part."""
        ids = candidate_ids(item_counts)
        self._rows = self._place = None
        if len(ids) < len(item_counts) - 1:
            self._rows = torch.cat([ids.new_tensor([PAD_ID]), ids])
            self._place = torch.zeros_like(item_counts, dtype=torch.int64)
            self._place[ids] = torch.arange(1, len(ids) + 1, device=ids.device)

    def forward(
        self,
        hidden: Tensor,
        target_ids: Tensor,
        scorer: Scorer,
        negatives: Negatives | None = None,
        weights: Tensor | None = None,
    ) -> Tensor:
        """hidden (N, D), target_ids (N,), each a candidate -> scalar float32."""
        own = scorer.own_block()
        if own is not None:
            return self._of_divided(hidden, target_ids, own, scorer.num_rows, weights)
        block = scorer.one_block()
        if block is None:
            if self._place is not None and not self._place[target_ids].all():
                raise IndexError("a target is out of the candidates: it has no training event")
            candidates = None if self._rows is None else self._rows[1:]
            losses = by_parts(hidden, target_ids, scorer, candidates, self.label_smoothing, self.temperature)
            return mean(losses, weights)
        _, weight, bias = block
        if self._rows is not None and self._place is not None:
            target_ids = self._place[target_ids]
            weight = TakenRows.apply(weight, self._rows, self._place)
            bias = None if bias is None else TakenRows.apply(bias, self._rows, self._place)
        if self.temperature != 1.0:
            hidden = hidden / self.temperature
            bias = None if bias is None else bias / self.temperature
        if self.implementation == "full":
            logits = wide(F.linear(hidden, weight[1:], None if bias is None else bias[1:]))  # (N, C)
            reduction = "mean" if weights is None else "none"
            losses = F.cross_entropy(logits, target_ids - 1, reduction=reduction, label_smoothing=self.label_smoothing)
            return losses if weights is None else mean(losses, weights)
        return linear_cross_entropy(
            hidden,
            weight,
            target_ids,
            bias,
            weights,
            label_smoothing=self.label_smoothing,
            chunk_size=self.chunk_size,
        )

    def _of_divided(
        self, hidden: Tensor, target_ids: Tensor, own: ItemBlock, num_rows: int, weights: Tensor | None
    ) -> Tensor:
        """Where the rows of the table are divided among processes."""
        (held, weight, bias), start = own, max(own.items.start, 1)  # without padding, which the first one holds
        if self._rows is None or self._place is None:
            taken: Tensor | slice = slice(start - held.start, held.stop - held.start)
            first, number, targets = start - 1, num_rows - 1, target_ids - 1
        else:
            candidates = self._rows[1:]
            if not self._place[target_ids].all():
                raise IndexError("a target is out of the candidates: it has no training event")
            first, last = torch.searchsorted(candidates, candidates.new_tensor([start, held.stop])).tolist()
            taken = candidates[first:last] - held.start
            number, targets = len(candidates), self._place[target_ids] - 1
        weight, bias = weight[taken], None if bias is None else bias[taken]
        if self.temperature != 1.0:
            hidden, bias = hidden / self.temperature, None if bias is None else bias / self.temperature
        return sharded_cross_entropy(
            hidden,
            weight,
            targets,
            first,
            number,
            bias,
            weights,
            label_smoothing=self.label_smoothing,
            chunk_size=self.chunk_size,
        )


class SampledSoftmax(SampledLoss):
    """-log softmax of the target among itself and the negatives, mean over positions.

    A negative that is the position's target is left out of the sum (its logit is set to -inf).

    Args:
        log_q_correction: subtract from each logit the log of how often its item is expected among the negatives, so
            that items drawn often are not pushed down for it.
        temperature: scores are divided by it, before the correction; > 0.
        correct_target: subtract it from the target's logit as well, as the papers do: consistent for any number of
            negatives. False leaves the target as it is, since it is there with certainty: the sum is then an
            unbiased estimate of the full softmax's, and the loss comes near full cross-entropy as negatives grow.
    """

    default_negatives = 256

    def __init__(self, log_q_correction: bool = True, temperature: Positive = 1.0, correct_target: bool = True) -> None:
        super().__init__()
        self.log_q_correction = log_q_correction
        self.temperature = temperature
        self.correct_target = correct_target

    def of_scores(self, scores: CandidateScores, negatives: Negatives, weights: Tensor | None) -> Tensor:
        target, negative = scores.target / self.temperature, scores.negative / self.temperature
        if self.log_q_correction:
            negative = negative - negatives.log_q
            if self.correct_target:
                target = target - negatives.target_log_q.unsqueeze(1)
        logits = torch.cat([target, negative.masked_fill(scores.collides, -torch.inf)], dim=1)  # (N, 1 + C)
        zeros = torch.zeros(len(logits), dtype=torch.int64, device=logits.device)
        return F.cross_entropy(logits, zeros) if weights is None else mean(-logits.log_softmax(1)[:, 0], weights)
