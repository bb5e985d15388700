"""What every loss with negatives starts from: the scores of the target and of the negatives, and who collides."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from recsys_lab.contracts import Loss, Negatives, Scorer
from recsys_lab.words import RecsysLabError


@dataclass(frozen=True)
class CandidateScores:
    """Scores in float32 (float64 for float64 inputs), whatever autocast made of them."""

    target: Tensor  # (N, 1)
    negative: Tensor  # (N, C)
    collides: Tensor  # (N, C) bool, True = this negative is the target of the position


def require_negatives(loss: Loss, negatives: Negatives | None) -> Negatives:
    """`negatives`, if there are any.

    Raises:
        RecsysLabError: naming the loss.
    """
    if negatives is None:
        raise RecsysLabError(
            f"{type(loss).__name__} needs negatives: give the model a sampler, "
            "e.g. negatives=recsys_lab.losses.negatives.UniformNegatives(num_negatives=256)"
        )
    return negatives


def score_candidates(hidden: Tensor, target_ids: Tensor, scorer: Scorer, negatives: Negatives) -> CandidateScores:
    """hidden (N, D), target_ids (N,), negatives shared (C,) or own (N, C) -> scores of both."""
    target = wide(scorer.scores(hidden, target_ids.unsqueeze(1)))  # (N, 1)
    negative = wide(scorer.scores(hidden, negatives.item_ids))  # (N, C)
    return CandidateScores(target, negative, negatives.item_ids == target_ids.unsqueeze(1))


def mean(values: Tensor, weights: Tensor | None) -> Tensor:
    """(N,) -> the mean; with weights (N,), not negative and not all zero, the weighted one."""
    if weights is None:
        return values.mean()
    return (values * weights).sum() / weights.sum()


def wide(scores: Tensor) -> Tensor:
    """In float32, or float64 where they are."""
    return scores.to(torch.promote_types(scores.dtype, torch.float32))
