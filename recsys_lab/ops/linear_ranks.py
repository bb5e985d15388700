"""Ranks where scores are a matrix product, without ever holding the scores: a part of the items is scored, compared
while it lies in the cache, and forgotten.

The comparison needs the target's score before the target's block is there, and it must be the very number that stands
in the block: another way to the same product can differ in its last bit, and make a tie of what is none. So the
target's score is guessed from a small product of the same kind, and compared for every row with what its block then
holds. Where a guess was wrong there are no ranks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from recsys_lab.contracts import Scorer
from recsys_lab.ops.ranks import OutrankingCount, Ranks, SeenScores, Ties

BLOCK_SCORES = 1 << 19
"""Scored at once: 2 MB, and as much to compare them."""

MIN_ROWS = 32
"""Products of fewer rows are computed in another way, in which guesses are wrong."""

GUESSED_ROWS = 64
"""Rows of one product that guesses: of each column only one number is used."""


def linear_target_ranks(
    query: Tensor,
    scorer: Scorer,
    target_ids: Tensor,
    is_candidate: Tensor,
    seen_ids: Tensor,
    seen_offsets: Tensor,
    ties: Ties = "expected",
) -> Ranks | None:
    """`target_ranks(scorer.all_scores(query), ...)`, the same numbers, two to three times faster on a CPU.

    Args:
        query: (B, D) float.
        scorer: whose `linear_blocks` are gone over twice.
        target_ids, is_candidate, seen_ids, seen_offsets, ties: as in `target_ranks`.

    Returns:
        None where this way does not work: scores that are no product, few rows, a processor on which guesses are wrong,
        or scores that are not finite. `target_ranks` then does.
    """
    if len(query) < MIN_ROWS or scorer.linear_blocks() is None:
        return None
    query = query.detach().float()
    with torch.autocast(query.device.type, enabled=False):
        spans, weight, bias = _rows(scorer, target_ids)
        guess = _guess(query, weight, bias)  # (B,)
        parts = _parts(spans, len(query))
        row = torch.repeat_interleave(seen_offsets.diff())  # (S,)
        wanted = WantedScores(
            torch.cat([row, torch.arange(len(query))]), torch.cat([seen_ids, target_ids]), parts, len(spans) == 1
        )
        count = OutrankingCount(is_candidate, len(query))
        for columns, scores in wanted.kept_from(_products(query, scorer, parts)):
            count.add(scores, guess[:, None], columns, overwrite=True)
    found = wanted.scores()
    if not torch.isfinite(count.total) or not torch.equal(found[len(seen_ids) :], guess):
        return None
    seen = SeenScores(seen_ids, seen_offsets, row, found[: len(seen_ids)])
    return count.ranks(guess[:, None], target_ids, seen, ties)


def _rows(scorer: Scorer, item_ids: Tensor) -> tuple[list[slice], Tensor, Tensor | None]:
    """Which ids each block of the table holds; the items' rows of the table, (B, D), and of the bias, (B,)."""
    spans, places, weights, biases = [], [], [], []
    for items, weight, bias in scorer.linear_blocks() or ():
        place = ((item_ids >= items.start) & (item_ids < items.stop)).nonzero().squeeze(1)
        local = item_ids[place] - items.start
        spans.append(items)
        places.append(place)
        weights.append(weight.detach().float()[local])
        biases.extend([] if bias is None else [bias.detach().float()[local]])
    order = torch.cat(places).argsort()
    return spans, torch.cat(weights)[order], torch.cat(biases)[order] if biases else None


def _parts(spans: list[slice], num_rows: int) -> list[slice]:
    """Columns that are scored at once, all but the padding: a new part begins where a block of the table does."""
    num_items = spans[-1].stop - 1
    step = math.ceil(num_items / math.ceil(num_items * num_rows / BLOCK_SCORES))
    return [
        slice(start, min(start + step, span.stop))
        for span in spans
        for start in range(max(span.start, 1), span.stop, step)
    ]


def _guess(query: Tensor, rows: Tensor, bias: Tensor | None) -> Tensor:
    """Scores of one item each, given its row of the table: (B,)."""
    parts = max(1, len(query) // GUESSED_ROWS)
    biases = [None] * parts if bias is None else bias.tensor_split(parts)
    return torch.cat(
        [
            F.linear(states, weight, own).diagonal()
            for states, weight, own in zip(query.tensor_split(parts), rows.tensor_split(parts), biases, strict=True)
        ]
    )


def _products(query: Tensor, scorer: Scorer, parts: list[slice]) -> Iterator[tuple[slice, Tensor]]:
    for items, weight, bias in scorer.linear_blocks() or ():
        weight, bias = weight.detach().float(), None if bias is None else bias.detach().float()
        for part in parts:
            if items.start <= part.start < items.stop:
                local = slice(part.start - items.start, part.stop - items.start)
                yield part, F.linear(query, weight[local], None if bias is None else bias[local])  # (B, C)


class WantedScores:
    """Single scores that are kept while parts go by.

    Args:
        row, item: (N,) int64: which; item from 1.
        parts: side by side, from item 1.
        even: all but the last are of one size.
    """

    def __init__(self, row: Tensor, item: Tensor, parts: list[slice], even: bool) -> None:
        if even:
            number = (item - 1).div_(parts[0].stop - 1, rounding_mode="floor").numpy()
        else:
            number = torch.bucketize(item, torch.tensor([part.start for part in parts[1:]]), right=True).numpy()
        small = next(t for t in (np.uint8, np.uint16, np.int64) if len(parts) <= np.iinfo(t).max)
        self._order = torch.from_numpy(np.argsort(number.astype(small), kind="stable"))  # small numbers: by counting
        self._bounds = np.cumsum(np.bincount(number, minlength=len(parts))).tolist()
        self._row, self._item = row.index_select(0, self._order), item.index_select(0, self._order)
        self._found: list[Tensor] = []

    def kept_from(self, blocks: Iterator[tuple[slice, Tensor]]) -> Iterator[tuple[slice, Tensor]]:
        """Passes all blocks on."""
        start = 0
        for (columns, scores), stop in zip(blocks, self._bounds, strict=True):
            row, item = self._row[start:stop], self._item[start:stop]
            self._found.append(scores.flatten().index_select(0, row * scores.shape[1] + (item - columns.start)))
            start = stop
            yield columns, scores

    def scores(self) -> Tensor:
        """(N,) when all blocks went by."""
        found = torch.cat(self._found)
        return torch.empty_like(found).index_copy_(0, self._order, found)
