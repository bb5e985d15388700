"""Pointwise losses: each score is a log-odds of its own.

BCE: Kang & McAuley 2018, "Self-Attentive Sequential Recommendation" (SASRec).
What differs from the paper: any number of negatives, and the sum is divided by the number of terms, 1 + C, as in
gSASRec's code, so that the size of the loss does not depend on C; negatives come from the sampler (the paper draws
among the items that the user has not met), and one that is the position's target counts 0.

GBCE: Petrov & Macdonald 2023, "gSASRec: Reducing Overconfidence in Sequential Recommendation Trained with Negative
Sampling".
What differs from the paper: the sampling rate alpha is C / (num_items - 1), at most 1, for any sampler (the paper's
argument is for uniform negatives); collisions as above.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from recsys_lab.losses.candidates import require_negatives, score_candidates
from recsys_lab.schema import Loss, Negatives, RecsysLabError, Scorer


def _binary_cross_entropy(
    hidden: Tensor, target_ids: Tensor, scorer: Scorer, negatives: Negatives, beta: float
) -> Tensor:
    """(-beta log sigmoid(target) - sum over negatives of log(1 - sigmoid(negative))) / (1 + C), mean over N."""
    scores = score_candidates(hidden, target_ids, scorer, negatives)
    terms = F.softplus(scores.negative).masked_fill(scores.collides, 0.0)  # -log(1 - sigmoid)
    total = beta * F.softplus(-scores.target).squeeze(1) + terms.sum(1)  # (N,)
    return total.mean() / (1 + terms.shape[1])


class BCE(Loss):
    """Binary cross-entropy of the target against each negative."""

    default_negatives = 1

    def __init__(self) -> None:  # takes nothing: nn.Module's own *args, **kwargs would hide a misspelt setting
        super().__init__()

    def forward(self, hidden: Tensor, target_ids: Tensor, scorer: Scorer, negatives: Negatives | None = None) -> Tensor:
        """hidden (N, D), target_ids (N,), negatives -> scalar float32."""
        return _binary_cross_entropy(hidden, target_ids, scorer, require_negatives(self, negatives), beta=1.0)


class GBCE(Loss):
    """BCE whose positive term is weakened by beta = 1 - t (1 - alpha), alpha = C / (num_items - 1).

    Args:
        t: calibration in [0, 1]. 0 = BCE; 1 = scores are calibrated as if all items were negatives.
    """

    default_negatives = 256

    def __init__(self, t: float = 0.75) -> None:
        super().__init__()
        if not 0.0 <= t <= 1.0:
            raise RecsysLabError(f"t must lie in [0, 1], not {t}")
        self.t = t

    def forward(self, hidden: Tensor, target_ids: Tensor, scorer: Scorer, negatives: Negatives | None = None) -> Tensor:
        """hidden (N, D), target_ids (N,), negatives -> scalar float32."""
        negatives = require_negatives(self, negatives)
        alpha = min(negatives.item_ids.shape[-1] / max(_num_items(hidden, scorer) - 1, 1), 1.0)
        # The paper's alpha (t (1 - 1 / alpha) + 1 / alpha), multiplied out.
        beta = 1.0 - self.t * (1.0 - alpha)
        return _binary_cross_entropy(hidden, target_ids, scorer, negatives, beta)


def _num_items(hidden: Tensor, scorer: Scorer) -> int:
    weight = scorer.item_weight()
    num_rows = scorer.all_items(hidden[:1].detach()).shape[1] if weight is None else weight.shape[0]
    return num_rows - 1
