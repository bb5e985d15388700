"""Pairwise losses: only differences to the target's score count.

BPR: Rendle et al. 2009, "BPR: Bayesian Personalized Ranking from Implicit Feedback".
What differs from the paper: the mean over any number of negatives; regularisation is the optimiser's weight decay.

BPRMax and TOP1Max: Hidasi & Karatzoglou 2018, "Recurrent Neural Networks with Top-k Gains for Session-based
Recommendations".
What differs from the paper: raw scores (GRU4Rec applies elu to them), negatives from any sampler.

In all three a negative that is the position's target takes no part; a position that has no other gives 0.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from recsys_lab.arguments import NotNegative
from recsys_lab.contracts import Negatives
from recsys_lab.losses.candidates import CandidateScores, SampledLoss, mean


class BPR(SampledLoss):
    """-log sigmoid(target - negative), mean over the negatives of a position and over positions."""

    default_negatives = 1

    def __init__(self) -> None:  # takes nothing: nn.Module's own *args, **kwargs would hide a misspelt setting
        super().__init__()

    def of_scores(self, scores: CandidateScores, negatives: Negatives, weights: Tensor | None) -> Tensor:
        terms = F.softplus(scores.negative - scores.target).masked_fill(scores.collides, 0.0)  # (N, C)
        kept = (~scores.collides).sum(1).clamp(min=1)  # (N,)
        return mean(terms.sum(1) / kept, weights)


class BPRMax(SampledLoss):
    """-log sum_j w_j sigmoid(target - r_j) + regularization * sum_j w_j r_j^2, w = softmax of the negatives' scores r.

    Args:
        regularization: weight of the score regularisation; at least 0.
    """

    default_negatives = 512

    def __init__(self, regularization: NotNegative = 1.0) -> None:
        super().__init__()
        self.regularization = regularization

    def of_scores(self, scores: CandidateScores, negatives: Negatives, weights: Tensor | None) -> Tensor:
        log_weights = _log_weights(scores)  # (N, C)
        gain = torch.logsumexp(log_weights + F.logsigmoid(scores.target - scores.negative), dim=1)  # (N,)
        penalty = (log_weights.exp() * scores.negative.square()).sum(1)  # (N,)
        return _mean_where_any(self.regularization * penalty - gain, scores, weights)


class TOP1Max(SampledLoss):
    """sum_j w_j (sigmoid(r_j - target) + sigmoid(r_j^2)), w = softmax of the negatives' scores r.

    The second part is the score regularisation, which keeps the negatives' scores near 0.
    """

    default_negatives = 512

    def __init__(self) -> None:
        super().__init__()

    def of_scores(self, scores: CandidateScores, negatives: Negatives, weights: Tensor | None) -> Tensor:
        terms = torch.sigmoid(scores.negative - scores.target) + torch.sigmoid(scores.negative.square())  # (N, C)
        return _mean_where_any((_log_weights(scores).exp() * terms).sum(1), scores, weights)


def _log_weights(scores: CandidateScores) -> Tensor:
    """(N, C) log softmax over the negatives that do not collide."""
    # The least finite number instead of -inf: a row of collisions only would be nan, and so would its gradient.
    lowest = torch.finfo(scores.negative.dtype).min
    return torch.log_softmax(scores.negative.masked_fill(scores.collides, lowest), dim=1)


def _mean_where_any(values: Tensor, scores: CandidateScores, weights: Tensor | None) -> Tensor:
    """Mean over all N of `values` (N,), with 0 for a position whose negatives all collide."""
    return mean(values.masked_fill(scores.collides.all(1), 0.0), weights)
