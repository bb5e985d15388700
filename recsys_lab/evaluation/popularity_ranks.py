"""Ranks that a list of the most popular items would give, without scoring the catalogue for every row."""

from __future__ import annotations

import torch
from torch import Tensor

from recsys_lab.ops.rank_metrics import MISS
from recsys_lab.ops.ranks import Ties


class PopularityRanks:
    """`target_ranks` of scores that are the training counts in every row, in O(B + S) after one sort.

    Args:
        item_counts: (V,) int64 training events; items without any are no candidates.
        ties: as in `target_ranks`.
    """

    def __init__(self, item_counts: Tensor, ties: Ties = "expected") -> None:
        ordered = item_counts.sort().values
        not_above = torch.searchsorted(ordered, item_counts, right=True)
        self.item_counts, self.ties = item_counts, ties
        self.greater = len(ordered) - not_above  # (V,) items with more events
        self.equal = not_above - torch.searchsorted(ordered, item_counts) - 1  # (V,) others with as many

    def __call__(self, target_ids: Tensor, seen_ids: Tensor, seen_offsets: Tensor) -> tuple[Tensor, Tensor]:
        """(B,), and the items to leave out as in `target_ranks` -> (B,) int64 candidates above the target, `MISS` where
        it is none, and (B,) int64 other ones at it."""
        count = self.item_counts[target_ids]  # (B,)
        owner = torch.repeat_interleave(seen_offsets.diff())  # (S,)
        own, limit = self.item_counts[seen_ids], count[owner]
        is_target = seen_ids == target_ids[owner]
        greater = self.greater[target_ids].index_add(0, owner, -(own > limit).long())
        equal = self.equal[target_ids].index_add(0, owner, -((own == limit) & ~is_target).long())
        is_hidden = torch.zeros_like(count).index_add(0, owner, is_target.long()) > 0
        if self.ties == "conservative":
            greater = greater + equal
        if self.ties != "expected":
            equal = torch.zeros_like(equal)
        is_miss = (count == 0) | is_hidden
        return greater.masked_fill(is_miss, MISS), equal.masked_fill(is_miss, 0)
