"""`target_ranks` and `top_items` as they were before they were made faster: the references that the faster ways must
equal bit by bit (test_ranks.py, test_top_items.py).

Both go over whole rows again and again: a sum to find NaN, two comparisons, a copy of the items that are no candidates;
a masked copy, of which all values are selected from.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from recsys_lab.ops.rank_metrics import MISS
from recsys_lab.ops.ranks import Ranks, Ties
from recsys_lab.ops.top_items import GOLDEN
from recsys_lab.words import PAD_ID, RecsysLabError


def target_ranks(
    scores: Tensor,
    target_ids: Tensor,
    is_candidate: Tensor,
    seen_ids: Tensor | None = None,
    seen_offsets: Tensor | None = None,
    ties: Ties = "expected",
) -> Ranks:
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

    if ties == "conservative":
        greater = greater + equal
    if ties != "expected":
        equal = torch.zeros_like(equal)
    is_miss = is_cold | is_hidden
    return Ranks(greater.masked_fill(is_miss, MISS), equal.masked_fill(is_miss, 0), num_candidates, is_cold, is_hidden)


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


def candidate_scores(
    scores: Tensor, is_candidate: Tensor, seen_ids: Tensor | None, seen_offsets: Tensor | None
) -> Tensor:
    """A copy of the scores, (B, V) float32, with -inf where an item is no candidate of its row; see `top_items`."""
    masked = scores.detach().float().masked_fill(~is_candidate, float("-inf"))
    if seen_ids is not None and seen_offsets is not None and len(seen_ids):
        owner = torch.repeat_interleave(seen_offsets.diff())  # (S,)
        masked[owner, seen_ids] = float("-inf")
    return masked


def top_items(
    scores: Tensor,
    is_candidate: Tensor,
    seen_ids: Tensor | None,
    seen_offsets: Tensor | None,
    k: int,
) -> tuple[Tensor, Tensor]:
    masked = candidate_scores(scores, is_candidate, seen_ids, seen_offsets)
    k = min(k, masked.shape[1])
    best, items = masked.topk(min(k + 1, masked.shape[1]), dim=1)  # one more shows whether a tie was cut
    tied = (best[:, 1:] == best[:, :-1]) & (best[:, 1:] > float("-inf"))
    again = tied.any(dim=1).nonzero().squeeze(1)
    best, items = best[:, :k], items[:, :k]
    if len(again):
        best[again], items[again] = _by_score_then_hash(masked[again], k)
    return items.masked_fill(best == float("-inf"), PAD_ID), best


def _by_score_then_hash(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """(B, V) -> scores (B, K) and items (B, K), equal scores in the order of their items' hashes."""
    ids = torch.arange(scores.shape[1], device=scores.device)
    order = ((ids * GOLDEN) % (1 << 32)).argsort()  # (V,)
    in_order = scores[:, order]
    threshold = in_order.topk(k, dim=1).values[:, -1:]  # (B, 1) the score of the last place
    # Above the threshold all are taken; at it those that come first. A stable sort of few columns does the rest.
    above = in_order > threshold
    at = (in_order == threshold) & ((in_order == threshold).cumsum(dim=1) <= k - above.sum(dim=1, keepdim=True))
    taken = (above | at).nonzero()[:, 1].view(len(scores), k)  # columns in hash order
    best, place = in_order.gather(1, taken).sort(dim=1, descending=True, stable=True)
    return best, order[taken.gather(1, place)]
