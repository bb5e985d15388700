"""target_ranks: whole rows of scores -> ranks. Every score is read once, in blocks that lie in the cache."""

from __future__ import annotations

import torch
from torch import Tensor

from recsys_lab.ops.ranks import MAX_COLUMNS, OutrankingCount, Ranks, SeenScores, Ties
from recsys_lab.words import RecsysLabError

CACHED_SCORES = 1 << 18
"""Compared at once on a CPU: 1 MB, and as much for the outcome, stay in its cache."""


def target_ranks(
    scores: Tensor,
    target_ids: Tensor,
    is_candidate: Tensor,
    seen_ids: Tensor | None = None,
    seen_offsets: Tensor | None = None,
    ties: Ties = "expected",
) -> Ranks:
    """Ranks of the targets among the candidates.

    Args:
        scores: (B, V) float; column 0 is padding. Compared in float32.
        target_ids: (B,) ids in 1..num_items.
        is_candidate: (V,) bool; False at padding and for items without training events.
        seen_ids: (S,) items to leave out, each at most once per row.
        seen_offsets: (B + 1,) row b owns `seen_ids[seen_offsets[b]:seen_offsets[b + 1]]`.
        ties: `expected` counts them apart, for metrics that are expectations over their orders; `conservative` counts
            each as above the target, `optimistic` as below it.

    Raises:
        RecsysLabError: when a score is NaN or infinite, naming the row.
    """
    scores = scores.detach().float()
    limit = scores.gather(1, target_ids[:, None])  # (B, 1)
    count = OutrankingCount(is_candidate, len(scores))
    if len(scores) > 1 and not scores.stride(0):  # one row that is expanded, as of popularity: sorted once
        count.add_alike(scores[0], limit)
    else:
        for rows, columns in _parts(scores):
            count.add(scores[rows, columns], limit[rows], columns, rows)
    if not torch.isfinite(count.total):  # the sum alone may overflow, so look again
        bad = ~torch.isfinite(scores[:, 1:]).all(dim=1)
        if bad.any():
            first = int(bad.nonzero()[0])
            raise RecsysLabError(f"row {first} of the scores holds NaN or infinite values: can't be ranked")
    seen = None
    if seen_ids is not None and seen_offsets is not None and len(seen_ids):
        row = torch.repeat_interleave(seen_offsets.diff())  # (S,)
        own = scores.flatten().index_select(0, row * scores.shape[1] + seen_ids)
        seen = SeenScores(seen_ids, seen_offsets, row, own)
    return count.ranks(limit, target_ids, seen, ties)


def _parts(scores: Tensor) -> list[tuple[slice, slice]]:
    """Rows and columns of (B, V) scores, all but the padding, to compare at once: whole rows, as many as the cache
    holds; where that is not even one, a part of it."""
    height, width = scores.shape
    cached = CACHED_SCORES if scores.device.type == "cpu" else height * width
    rows, columns = max(1, cached // width), max(1, min(cached, MAX_COLUMNS))
    return [
        (slice(top, min(top + rows, height)), slice(left, min(left + columns, width)))
        for top in range(0, height, rows)
        for left in range(1, width, columns)
    ]
