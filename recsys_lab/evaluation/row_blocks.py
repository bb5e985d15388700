"""A batch in blocks of rows whose scores are made, used and thrown away together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from recsys_lab.contracts import Batch
from recsys_lab.evaluation.measure import ScoredRows
from recsys_lab.ops.ranks import Ties
from recsys_lab.ops.target_ranks import target_ranks

BYTES_PER_SCORE = 8  # the score, and what a comparison or a masked copy of it takes

# On a CPU a block of scores is used while it lies in the cache; fewer rows would make the matrix products thin.
CPU_BLOCK_SCORES = 1 << 19
CPU_BLOCK_ROWS = 64


def row_blocks(batch: Batch, num_columns: int, max_bytes: int) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Cuts an evaluation batch.

    Args:
        batch: with seen items.
        num_columns: V.
        max_bytes: bound on the memory of a block; one row is always taken.

    Yields:
        The rows of a block, and their seen items: ids (S,) and offsets (rows + 1,), from 0.
    """
    assert batch.seen_ids is not None and batch.seen_offsets is not None
    size = max(1, max_bytes // (num_columns * BYTES_PER_SCORE))
    if batch.seen_ids.device.type == "cpu":
        size = min(size, max(CPU_BLOCK_SCORES // num_columns, CPU_BLOCK_ROWS))
    if size >= len(batch):
        yield slice(0, len(batch)), batch.seen_ids, batch.seen_offsets
        return
    for start in range(0, len(batch), size):
        rows = slice(start, min(start + size, len(batch)))
        offsets = batch.seen_offsets[start : rows.stop + 1]
        yield rows, batch.seen_ids[offsets[0] : offsets[-1]], offsets - offsets[0]


def scored_rows(
    model: Any, query: Tensor, batch: Batch, is_candidate: Tensor, max_bytes: int, ties: Ties
) -> Iterator[ScoredRows]:
    """An evaluation batch scored and ranked in blocks of rows, in their order. Where rows have several targets, each
    block comes once for the first target of its rows, then for the second of those that have one, and so on.

    Args:
        query: (B, ...) of `model.query(batch)`. is_candidate: (V,) bool. max_bytes: bound on the scores of a block.
    """
    assert batch.target_event is not None
    for rows, seen, offsets in row_blocks(batch, len(is_candidate), max_bytes):
        scores, target_ids, where = model.score(query[rows]).detach(), batch.target_ids[rows], batch.target_event[rows]
        if batch.target_mask is None:
            ranks = target_ranks(scores, target_ids, is_candidate, seen, offsets, ties)
            yield ScoredRows(scores, where, target_ids, seen, offsets, ranks, is_candidate)
            continue
        for place, has_one in enumerate(batch.target_mask[rows].T):  # (rows,) of each of the T
            if not has_one.any():
                break
            # of rows that have no such target the padding is ranked, and left out
            ids = target_ids[:, place].where(has_one, target_ids[:, 0])
            ranks = target_ranks(scores, ids, is_candidate, seen, offsets, ties)
            whole = ScoredRows(scores, where[:, place], ids, seen, offsets, ranks, is_candidate, place == 0)
            yield whole.select(has_one)
