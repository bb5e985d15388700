"""What every loss with negatives starts from: the scores of the target and of the negatives, and who collides."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from recsys_lab.contracts import Loss, Negatives, Scorer
from recsys_lab.words import RecsysLabError


@dataclass(frozen=True)
class CandidateScores:
    """Scores in float32 (float64 for float64 inputs), whatever autocast made of them."""

    target: Tensor  # (N, 1)
    negative: Tensor  # (N, C)
    collides: Tensor  # (N, C) bool, True = this negative is the target of the position
    num_items: int  # of the scorer


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
    return CandidateScores(target, negative, negatives.item_ids == target_ids.unsqueeze(1), scorer.num_rows - 1)


class SampledLoss(Loss):
    """A loss of the scores of each target and its negatives, and of nothing else: a loss below it is `of_scores`."""

    def forward(
        self,
        hidden: Tensor,
        target_ids: Tensor,
        scorer: Scorer,
        negatives: Negatives | None = None,
        weights: Tensor | None = None,
    ) -> Tensor:
        """hidden (N, D), target_ids (N,), negatives -> scalar float32."""
        drawn = require_negatives(self, negatives)
        return self.of_scores(score_candidates(hidden, target_ids, scorer, drawn), drawn, weights)

    @abstractmethod
    def of_scores(self, scores: CandidateScores, negatives: Negatives, weights: Tensor | None) -> Tensor:
        """-> scalar float32, the mean over the N positions, weighted where there are `weights` (N,)."""


def mean(values: Tensor, weights: Tensor | None) -> Tensor:
    """(N,) -> the mean; with weights (N,), not negative and not all zero, the weighted one."""
    if weights is None:
        return values.mean()
    return (values * weights).sum() / weights.sum()


def wide(scores: Tensor) -> Tensor:
    """In float32, or float64 where they are."""
    return scores.to(torch.promote_types(scores.dtype, torch.float32))


class TakenRows(Function):
    """`table.index_select(0, rows)`, whose gradient is read from where each row went instead of being added up: that
    halves its time, which is a twentieth of a training step on 12,000 items.

    table: (V, ...). rows: (R,), each once, row 0 first. place: (V,), rows[place[v]] = v, and 0 where v was not taken.
    Nothing may depend on the row 0 that comes out, padding: its gradient, 0, is that of the rows that were not taken.
    """

    @staticmethod
    def forward(ctx: Any, table: Tensor, rows: Tensor, place: Tensor) -> Tensor:
        ctx.save_for_backward(place)
        return table.index_select(0, rows)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (place,) = ctx.saved_tensors
        return gradients[0].index_select(0, place), None, None
