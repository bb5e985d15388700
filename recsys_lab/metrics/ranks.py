"""scores -> rank of the target. The only place that compares scores.

    rank = 1 + #(score > target) + #(ties) / 2        over the candidates

The candidates are the items with training events, less the seen ones. Neither is written into the scores: what outranks
the target but is no candidate is subtracted from the counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from recsys_lab.schema import RecsysLabError

Ties = Literal["mean", "conservative", "optimistic"]
TIE_WEIGHT = {"mean": 0.5, "conservative": 1.0, "optimistic": 0.0}


@dataclass(frozen=True)
class Ranks:
    """Ranks of B targets."""

    rank: Tensor  # (B,) float64 from 1; inf = a miss: the target is no candidate (cold, or seen and hidden)
    num_candidates: Tensor  # (B,) int64, the target included where it is one
    is_cold: Tensor  # (B,) bool: the target has no training event
    is_hidden: Tensor  # (B,) bool: the target is among the row's seen items


def target_ranks(
    scores: Tensor,
    target_ids: Tensor,
    is_candidate: Tensor,
    seen_ids: Tensor | None = None,
    seen_offsets: Tensor | None = None,
    ties: Ties = "mean",
) -> Ranks:
    """Ranks of the targets among the candidates.

    Args:
        scores: (B, V) float; column 0 is padding. Compared in float32.
        target_ids: (B,) ids in 1..num_items.
        is_candidate: (V,) bool; False at padding and for items without training events.
        seen_ids: (S,) items to leave out, each at most once per row.
        seen_offsets: (B + 1,) row b owns `seen_ids[seen_offsets[b]:seen_offsets[b + 1]]`.
        ties: what a tie counts: half a place (`mean`), a whole one (`conservative`), nothing (`optimistic`).

    Raises:
        RecsysLabError: when a score is NaN or infinite, naming the row.
    """
    scores = scores.float()
    if not torch.isfinite(scores.sum()):  # one cheap pass; the sum alone may overflow, so look again
        bad = ~torch.isfinite(scores[:, 1:]).all(dim=1)
        if bad.any():
            raise RecsysLabError(
                f"row {int(bad.nonzero()[0])} of the scores holds NaN or infinite values: can't be ranked"
            )
    target_score = scores.gather(1, target_ids[:, None])  # (B, 1)
    greater = torch.count_nonzero(scores > target_score, dim=1)  # (B,)
    equal = torch.count_nonzero(scores == target_score, dim=1) - 1  # (B,) without the target itself

    excluded = (~is_candidate).nonzero().squeeze(1)  # (E,) at least the padding column
    outside = scores[:, excluded]  # (B, E)
    greater -= torch.count_nonzero(outside > target_score, dim=1)
    is_other = excluded != target_ids[:, None]  # the target itself was taken out of `equal` above
    equal -= torch.count_nonzero((outside == target_score) & is_other, dim=1)
    num_candidates = is_candidate.sum().expand(len(scores)).clone()

    is_hidden = torch.zeros(len(scores), dtype=torch.bool, device=scores.device)
    if seen_ids is not None and seen_offsets is not None and len(seen_ids):
        row = torch.repeat_interleave(torch.arange(len(scores), device=scores.device), seen_offsets.diff())  # (S,)
        keep = is_candidate[seen_ids]  # the others are out already
        row, item = row[keep], seen_ids[keep]
        own, limit = scores[row, item], target_score[row, 0]
        is_target = item == target_ids[row]
        num_candidates -= _count(row, len(scores))
        greater -= _count(row[own > limit], len(scores))
        equal -= _count(row[(own == limit) & ~is_target], len(scores))
        is_hidden[row[is_target]] = True

    is_cold = ~is_candidate[target_ids]
    rank = 1.0 + greater.double() + TIE_WEIGHT[ties] * equal.double()
    rank = rank.masked_fill(is_cold | is_hidden, float("inf"))
    return Ranks(rank, num_candidates, is_cold, is_hidden)


def _count(row: Tensor, rows: int) -> Tensor:
    return torch.bincount(row, minlength=rows)
