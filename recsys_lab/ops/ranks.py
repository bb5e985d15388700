"""scores -> how many candidates outrank the target, and how many are tied with it. The only place that compares scores.

The candidates are the items with training events, less the seen ones. Neither is written into the scores: the others
do not count, and what the seen ones count is subtracted.

Whoever has the scores hands them over block by block: `target_ranks.py` those of whole rows, `linear_ranks.py` those of
a matrix product, which it makes and forgets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from recsys_lab.ops.rank_metrics import MISS, mean_place

Ties = Literal["expected", "conservative", "optimistic"]

MAX_COLUMNS = 1 << 22
"""Compared at once on any device: float32 holds every whole number up to 2^24."""


@dataclass(frozen=True)
class Ranks:
    """Ranks of B targets among their candidates."""

    num_greater: Tensor  # (B,) int64 candidates above the target; MISS: the target is none (cold, or seen and hidden)
    num_ties: Tensor  # (B,) int64 other candidates at its score; 0 for a miss, and where `ties` has settled them
    num_candidates: Tensor  # (B,) int64, the target included where it is one
    is_cold: Tensor  # (B,) bool: the target has no training event
    is_hidden: Tensor  # (B,) bool: the target is among the row's seen items

    @property
    def is_miss(self) -> Tensor:
        """(B,) bool: the target is no candidate."""
        return self.is_cold | self.is_hidden

    @property
    def rank(self) -> np.ndarray:
        """(B,) float64 mean place over all orders of the ties, from 1; inf for a miss. For people: metrics take
        `num_greater` and `num_ties`, since the metric of a mean place is not the mean of the metric."""
        return mean_place(self.num_greater.cpu().numpy(), self.num_ties.cpu().numpy())

    def select(self, keep: Tensor) -> Ranks:
        """The rows that `keep`, a mask or indices, names."""
        return Ranks(*(getattr(self, field.name)[keep] for field in fields(self)))

    @classmethod
    def cat(cls, blocks: Sequence[Ranks]) -> Ranks:
        """Of blocks of rows, one after the other."""
        return cls(*(torch.cat([getattr(block, field.name) for block in blocks]) for field in fields(cls)))


@dataclass(frozen=True)
class SeenScores:
    """The seen items of B rows, flat."""

    item_ids: Tensor  # (S,) int64, each at most once per row
    offsets: Tensor  # (B + 1,) row b owns those from offsets[b] to offsets[b + 1]
    row: Tensor  # (S,)
    scores: Tensor  # (S,) float32


class OutrankingCount:
    """Counts, block by block, the candidates above and at each row's limit. All in float32 and int64: not every device
    has float64.

    Args:
        is_candidate: (V,) bool.
        num_rows: B.
    """

    def __init__(self, is_candidate: Tensor, num_rows: int) -> None:
        self.is_candidate = is_candidate
        self._inside = is_candidate.float()  # (V,)
        self._above = torch.zeros(num_rows, dtype=torch.int64, device=is_candidate.device)
        self._apart = torch.zeros_like(self._above)  # above or below, not at it
        self.total = self._inside.new_zeros(())
        """Sum of all scores: not finite if one of them is not."""
        self._scratch = self._inside.new_empty(0)

    def add(
        self, scores: Tensor, limit: Tensor, columns: slice, rows: slice = slice(None), overwrite: bool = False
    ) -> None:
        """One block.

        Args:
            scores: (b, c) float32, c at most MAX_COLUMNS.
            limit: (b, 1) the target's score: the very number that stands in the block.
            columns: of the V, which the block's are. rows: of the B.
            overwrite: the scores may be destroyed: faster.
        """
        self.total += scores.sum()
        # Numbers that differ have a difference, however small: its sign compares them. Written as float32 and summed by
        # a product: several times faster on a CPU than booleans, which are neither written nor counted in vectors.
        out = scores if overwrite else self._like(scores)
        sign = torch.sub(scores, limit, out=out).sign_()
        inside = self._inside[columns]
        net = torch.mv(sign, inside).long()  # above less below
        apart = torch.mv(sign.mul_(sign), inside).long()
        self._above[rows] += (net + apart) >> 1
        self._apart[rows] += apart

    def add_alike(self, row: Tensor, limit: Tensor) -> None:
        """All at once, where the scores of each row are `row`, (V,) float32. limit: (B, 1) as in `add`."""
        self.total += row[1:].sum()
        among, own = row[self.is_candidate].sort().values, limit.squeeze(1)
        not_above, below = torch.searchsorted(among, own, right=True), torch.searchsorted(among, own)
        self._above += len(among) - not_above
        self._apart += len(among) - (not_above - below)

    def _like(self, scores: Tensor) -> Tensor:
        """A block of the same shape, of memory that is kept: it lies in the cache."""
        if self._scratch.numel() < scores.numel():
            self._scratch = torch.empty(scores.numel(), device=scores.device)
        return self._scratch[: scores.numel()].view(scores.shape)

    def outranking(self, limit: Tensor, seen: SeenScores | None) -> tuple[Tensor, Tensor]:
        """(B, 1) target's scores -> the candidates above each, and those at it with itself, (B,) int64, when all blocks
        were added: what the seen items count is subtracted."""
        greater, equal = self._above, torch.count_nonzero(self.is_candidate) - self._apart
        if seen is not None:
            counts = self.is_candidate.index_select(0, seen.item_ids)  # the others are out already
            own_limit = limit.squeeze(1).index_select(0, seen.row)
            greater = greater - _sum_per_row(counts & (seen.scores > own_limit), seen.offsets)
            equal = equal - _sum_per_row(counts & (seen.scores == own_limit), seen.offsets)
        return greater, equal

    def ranks(self, limit: Tensor, target_ids: Tensor, seen: SeenScores | None, ties: Ties) -> Ranks:
        """(B, 1) target's scores -> ranks, when all blocks were added."""
        return ranks_of(*self.outranking(limit, seen), self.is_candidate, target_ids, seen, ties)


def ranks_of(
    greater: Tensor, equal: Tensor, is_candidate: Tensor, target_ids: Tensor, seen: SeenScores | None, ties: Ties
) -> Ranks:
    """What `OutrankingCount.outranking` found among all items -> ranks."""
    is_cold = ~is_candidate.index_select(0, target_ids)
    num_candidates = torch.count_nonzero(is_candidate).expand(len(target_ids)).clone()
    is_hidden = torch.zeros_like(is_cold)
    if seen is not None:
        num_candidates = num_candidates - _sum_per_row(is_candidate.index_select(0, seen.item_ids), seen.offsets)
        is_target = seen.item_ids == target_ids.index_select(0, seen.row)
        is_hidden[seen.row[is_target]] = True
        is_hidden &= ~is_cold
    equal = equal - 1  # the target is tied with itself
    if ties == "conservative":
        greater = greater + equal
    if ties != "expected":
        equal = torch.zeros_like(equal)
    is_miss = is_cold | is_hidden
    greater, equal = greater.masked_fill(is_miss, MISS), equal.masked_fill(is_miss, 0)
    return Ranks(greater, equal, num_candidates, is_cold, is_hidden)


def _sum_per_row(flags: Tensor, offsets: Tensor) -> Tensor:
    """(S,) bool, (B + 1,) -> (B,) int64: the true ones between each two offsets."""
    return F.pad(flags.cumsum(0), (1, 0)).index_select(0, offsets).diff()
