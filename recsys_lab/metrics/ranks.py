"""scores -> rank of the target. The only place that compares scores.

    rank = 1 + #(score > target) + #(ties) / 2        over the candidates

The candidates are the items with training events, less the seen ones. Neither is written into the scores: what outranks
the target but is no candidate is subtracted from the counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
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
    scores = scores.detach().float()
    if not torch.isfinite(scores.sum()):  # one cheap pass; the sum alone may overflow, so look again
        bad = ~torch.isfinite(scores[:, 1:]).all(dim=1)
        if bad.any():
            row = int(bad.nonzero()[0])
            raise RecsysLabError(f"row {row} of the scores holds NaN or infinite values: can't be ranked")
    target_score = scores.gather(1, target_ids[:, None])  # (B, 1)
    is_cold = ~is_candidate[target_ids]
    outside = scores[:, ~is_candidate]  # (B, E) at least the padding column
    greater, at_least = _count_outranking(scores, target_score)
    greater_outside, at_least_outside = _count_outranking(outside, target_score)
    greater -= greater_outside
    # without the target itself, which is tied with itself among all, and if cold among those outside
    equal = (at_least - 1) - (at_least_outside - is_cold.long()) - greater
    num_candidates = is_candidate.sum().expand(len(scores)).clone()

    is_hidden = torch.zeros(len(scores), dtype=torch.bool, device=scores.device)
    if seen_ids is not None and seen_offsets is not None and len(seen_ids):
        owner = torch.repeat_interleave(seen_offsets.diff())  # (S,)
        own = scores.flatten().index_select(0, owner * scores.shape[1] + seen_ids)
        limit = target_score.squeeze(1).index_select(0, owner)
        counts = is_candidate.index_select(0, seen_ids)  # the others are out already
        is_target = counts & (seen_ids == target_ids.index_select(0, owner))
        num_candidates -= _sum_per_row(counts, seen_offsets)
        greater -= _sum_per_row(counts & (own > limit), seen_offsets)
        equal -= _sum_per_row(counts & (own == limit) & ~is_target, seen_offsets)
        is_hidden = _sum_per_row(is_target, seen_offsets) > 0

    rank = 1.0 + greater.double() + TIE_WEIGHT[ties] * equal.double()
    rank = rank.masked_fill(is_cold | is_hidden, float("inf"))
    return Ranks(rank, num_candidates, is_cold, is_hidden)


def _sum_per_row(flags: Tensor, offsets: Tensor) -> Tensor:
    """(S,) bool, (B + 1,) -> (B,) int64: the true ones between each two offsets."""
    return F.pad(flags.cumsum(0), (1, 0))[offsets].diff()


def _count_outranking(scores: Tensor, limit: Tensor) -> tuple[Tensor, Tensor]:
    """(B, V), (B, 1) -> (B,) int64: how many scores lie above the limit, and how many not below it."""
    if scores.device.type != "cpu" or scores.shape[1] >= 1 << 24:
        return torch.count_nonzero(scores > limit, dim=1), torch.count_nonzero(scores >= limit, dim=1)
    # Comparisons written as float32 and summed: ten times faster than counting booleans on a CPU, and as exact, since
    # float32 holds every whole number up to 2^24.
    flags = torch.empty_like(scores)
    above = torch.gt(scores, limit, out=flags).sum(dim=1).long()
    return above, torch.ge(scores, limit, out=flags).sum(dim=1).long()
