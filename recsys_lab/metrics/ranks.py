"""scores -> rank of the target. The only place that compares scores.

    rank = 1 + #(score > target) + #(ties) / 2        over the candidates

The candidates are the items with training events, less the seen ones. Neither is written into the scores: the others
do not count, and what the seen ones count is subtracted.

Every score is read once, in blocks of columns that lie in the cache. `linear_ranks.py` does not even keep them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from recsys_lab.schema import RecsysLabError

Ties = Literal["mean", "conservative", "optimistic"]
TIE_WEIGHT = {"mean": 0.5, "conservative": 1.0, "optimistic": 0.0}

CACHED_SCORES = 1 << 18
"""Compared at once on a CPU: 1 MB, and as much for the outcome, stay in its cache."""

MAX_COLUMNS = 1 << 22
"""Compared at once on any device: float32 holds every whole number up to 2^24."""


@dataclass(frozen=True)
class Ranks:
    """Ranks of B targets."""

    rank: Tensor  # (B,) float64 from 1; inf = a miss: the target is no candidate (cold, or seen and hidden)
    num_candidates: Tensor  # (B,) int64, the target included where it is one
    is_cold: Tensor  # (B,) bool: the target has no training event
    is_hidden: Tensor  # (B,) bool: the target is among the row's seen items

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
    width = scores.shape[1]
    step = columns_at_once(scores)
    parts = [slice(start, min(start + step, width)) for start in range(1, width, step)]
    limit = scores.gather(1, target_ids[:, None])  # (B, 1)
    places, total = outranking(((part, scores[:, part]) for part in parts), limit, is_candidate, ties)
    if not torch.isfinite(total):  # the sum alone may overflow, so look again
        bad = ~torch.isfinite(scores[:, 1:]).all(dim=1)
        if bad.any():
            first = int(bad.nonzero()[0])
            raise RecsysLabError(f"row {first} of the scores holds NaN or infinite values: can't be ranked")
    seen = None
    if seen_ids is not None and seen_offsets is not None and len(seen_ids):
        row = torch.repeat_interleave(seen_offsets.diff())  # (S,)
        own = scores.flatten().index_select(0, row * width + seen_ids)
        seen = SeenScores(seen_ids, seen_offsets, row, own)
    return ranks_from_places(places, limit, target_ids, is_candidate, seen, ties)


def columns_at_once(scores: Tensor) -> int:
    """How many columns of (B, V) scores to compare at once."""
    return MAX_COLUMNS if scores.device.type != "cpu" else max(1, min(CACHED_SCORES // len(scores), MAX_COLUMNS))


def outranking(
    blocks: Iterable[tuple[slice, Tensor]], limit: Tensor, is_candidate: Tensor, ties: Ties
) -> tuple[Tensor, Tensor]:
    """How many places the candidates take up before the target, itself included as a tie.

    Args:
        blocks: columns and their scores (B, C) float32; together all but the padding.
        limit: (B, 1) the target's score: the very number that stands in the blocks.
        is_candidate: (V,) bool.
        ties: see `target_ranks`.

    Returns:
        (B,) float64: 1 for each candidate above the limit, and at it what `ties` says. And the sum of all scores: not
        finite if one of them is not.
    """
    inside = is_candidate.to(limit.dtype)  # (V,)
    counted = torch.zeros(len(limit), dtype=torch.float64, device=limit.device)
    total = limit.new_zeros(())
    for columns, scores in blocks:
        total = total + scores.sum()
        counted += torch.mv(_compared(scores, limit, ties), inside[columns])
    return _as_places(counted, torch.count_nonzero(is_candidate), ties), total


def ranks_from_places(
    places: Tensor, limit: Tensor, target_ids: Tensor, is_candidate: Tensor, seen: SeenScores | None, ties: Ties
) -> Ranks:
    """(B,) from `outranking`, (B, 1) target's score -> ranks: the seen items' places are subtracted."""
    is_cold = ~is_candidate.index_select(0, target_ids)
    num_candidates = torch.count_nonzero(is_candidate).expand(len(places)).clone()
    is_hidden = torch.zeros_like(is_cold)
    if seen is not None:
        counts = is_candidate.index_select(0, seen.item_ids)  # the others are out already
        compared = _compared(seen.scores, limit.squeeze(1).index_select(0, seen.row), ties).mul_(counts)
        num_seen = _sum_per_row(counts, seen.offsets)
        places = places - _as_places(_sum_per_row(compared.double(), seen.offsets), num_seen, ties)
        num_candidates -= num_seen
        is_target = seen.item_ids == target_ids.index_select(0, seen.row)
        is_hidden[seen.row[is_target]] = True
        is_hidden &= ~is_cold
    rank = 1.0 - TIE_WEIGHT[ties] + places  # the target is tied with itself
    return Ranks(rank.masked_fill(is_cold | is_hidden, float("inf")), num_candidates, is_cold, is_hidden)


def _compared(scores: Tensor, limit: Tensor, ties: Ties) -> Tensor:
    """-> as `scores`, float32: 1, 0, -1 above, at and below the limit; 1 or 0 where ties are no half places."""
    # written as float32: several times faster on a CPU than booleans, which are neither written nor counted in vectors
    compared = torch.empty_like(scores)
    if ties == "mean":
        return torch.sub(scores, limit, out=compared).sign_()  # numbers that differ have a difference, however small
    return torch.ge(scores, limit, out=compared) if ties == "conservative" else torch.gt(scores, limit, out=compared)


def _as_places(compared: Tensor, count: Tensor, ties: Ties) -> Tensor:
    """Sums of `_compared` over so many scores each -> 1 for each above the limit, what `ties` says for each at it."""
    return (compared + count) / 2 if ties == "mean" else compared


def _sum_per_row(values: Tensor, offsets: Tensor) -> Tensor:
    """(S,), (B + 1,) -> (B,): sums between each two offsets."""
    return F.pad(values.cumsum(0), (1, 0)).index_select(0, offsets).diff()
