"""Ranks and top lists where the table is divided among processes: each scores its own items for the rows of all.

The target's score is that of its owner's block, the very number that stands among the scores there. Counts of
candidates above a target are added up over the processes; of lists the best of each block are put together. Every
process calls these functions, with rows of its own or with none.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from recsys_lab.contracts import ItemBlock
from recsys_lab.ops.processes import parts_of_all
from recsys_lab.ops.ranks import MAX_COLUMNS, OutrankingCount, Ranks, SeenScores, Ties, ranks_of
from recsys_lab.ops.shards import Division, exchanged
from recsys_lab.ops.top_items import best_items, hashes
from recsys_lab.words import PAD_ID, RecsysLabError

BLOCK_SCORES = 1 << 22
"""Scored at once, 16 MB, where that is at least `FEWEST_ROWS` rows by the items of a process."""
FEWEST_ROWS = 16
"""Of a block: they share one pass over the table."""


class Gathered:
    """The rows of all processes, and of each what its seen items are among those of this process.

    Args:
        query: (B, D), of this process. block: the rows of the table that it holds. num_rows: V.
        seen_ids, seen_offsets: as in `top_items`, of this process's rows.
    """

    def __init__(
        self, query: Tensor, block: ItemBlock, num_rows: int, seen_ids: Tensor | None, seen_offsets: Tensor | None
    ) -> None:
        self.block, self.division = block, Division.here(num_rows)
        parts = parts_of_all(query.detach().float())
        self.query, self.counts = torch.cat(parts), [len(part) for part in parts]
        start = sum(self.counts[: self.division.rank])
        self.own = slice(start, start + len(query))
        if seen_ids is None or seen_offsets is None:
            seen_ids = query.new_zeros(0, dtype=torch.int64)
            seen_offsets = query.new_zeros(len(query) + 1, dtype=torch.int64)
        lengths = torch.cat(parts_of_all(seen_offsets.diff()))
        row = torch.repeat_interleave(lengths)  # (S,) of all
        ids = torch.cat(parts_of_all(seen_ids)) - block.items.start
        here = (ids >= 0) & (ids < block.items.stop - block.items.start)
        self.seen_row, self.seen_ids = row[here], ids[here]  # columns of the block
        counts = torch.bincount(self.seen_row, minlength=len(self.query))
        self.seen_offsets = F.pad(counts.cumsum(0), (1, 0))

    def scores(self) -> Iterator[tuple[slice, Tensor]]:
        """Some rows by the items of this process, (b, n) float32; as many blocks on each process."""
        weight, bias = self.block.weight.detach().float(), self.block.bias
        bias = None if bias is None else bias.detach().float()
        size = max(FEWEST_ROWS, BLOCK_SCORES // self.division.largest)
        for start in range(0, len(self.query), size):
            rows = slice(start, min(start + size, len(self.query)))
            with torch.autocast(weight.device.type, enabled=False):
                yield rows, F.linear(self.query[rows], weight, bias)

    def seen_of(self, rows: slice) -> tuple[Tensor, Tensor]:
        """Rows of the block of scores and columns, of the seen items."""
        start, stop = (int(self.seen_offsets[place]) for place in (rows.start, rows.stop))
        return self.seen_row[start:stop] - rows.start, self.seen_ids[start:stop]


def sharded_target_ranks(
    query: Tensor,
    block: ItemBlock,
    target_ids: Tensor,
    is_candidate: Tensor,
    seen_ids: Tensor | None = None,
    seen_offsets: Tensor | None = None,
    ties: Ties = "expected",
) -> Ranks:
    """`target_ranks` of the products of this process's rows with the whole table.

    Args:
        query: (B, D) float; B may differ between processes, and be 0.
        block: the rows of the table that this process holds.
        target_ids, is_candidate, seen_ids, seen_offsets, ties: as in `target_ranks`.

    Raises:
        RecsysLabError: on every process, when a score of one of them is NaN or infinite.
    """
    rows_of_all = Gathered(query, block, len(is_candidate), seen_ids, seen_offsets)
    held, total = block.items, len(rows_of_all.query)
    target = torch.cat(parts_of_all(target_ids)) - held.start
    inside = (target >= 0) & (target < held.stop - held.start)
    target = target.clamp(0, held.stop - held.start - 1)
    count = OutrankingCount(is_candidate[held], total)
    bad = torch.zeros(total, dtype=torch.int64, device=query.device)
    limits, of_seen = query.new_zeros(total, dtype=torch.float32), [query.new_zeros(0, dtype=torch.float32)]
    for rows, scores in rows_of_all.scores():
        if not torch.isfinite(scores.sum()) and not torch.isfinite(scores).all():
            bad.fill_(1)
        own = scores.gather(1, target[rows, None]).squeeze(1)
        limit = torch.where(inside[rows], own, 0.0)
        dist.all_reduce(limit)
        limits[rows] = limit
        row, column = rows_of_all.seen_of(rows)
        of_seen.append(scores[row, column])
        step = max(1, min(MAX_COLUMNS, BLOCK_SCORES // len(scores)))
        for start in range(0, scores.shape[1], step):
            columns = slice(start, min(start + step, scores.shape[1]))
            count.add(scores[:, columns], limit[:, None], columns, rows)
    seen = SeenScores(rows_of_all.seen_ids, rows_of_all.seen_offsets, rows_of_all.seen_row, torch.cat(of_seen))
    found = torch.stack([*count.outranking(limits[:, None], seen), bad])
    dist.all_reduce(found)
    greater, equal, _ = found[:, rows_of_all.own]
    if found[2].any():
        raise RecsysLabError("a row of the scores holds NaN or infinite values: can't be ranked")
    own_seen = None
    if seen_ids is not None and seen_offsets is not None and len(seen_ids):
        row = torch.repeat_interleave(seen_offsets.diff())
        own_seen = SeenScores(seen_ids, seen_offsets, row, seen_ids.float())  # their scores were counted already
    return ranks_of(greater, equal, is_candidate, target_ids, own_seen, ties)


def sharded_top_items(
    query: Tensor,
    block: ItemBlock,
    is_candidate: Tensor,
    seen_ids: Tensor | None,
    seen_offsets: Tensor | None,
    k: int,
) -> tuple[Tensor, Tensor]:
    """`top_items` of the products of this process's rows with the whole table; arguments as in `sharded_target_ranks`.

    Returns:
        item_ids (B, K) int64 and scores (B, K) float32, as `top_items`.
    """
    rows_of_all = Gathered(query, block, len(is_candidate), seen_ids, seen_offsets)
    k, held, total = min(k, len(is_candidate)), block.items, len(rows_of_all.query)
    items = torch.full((total, k), PAD_ID, dtype=torch.int64, device=query.device)
    best = torch.full((total, k), float("-inf"), device=query.device)
    closed = ~is_candidate[held]
    for rows, scores in rows_of_all.scores():
        masked = scores.masked_fill_(closed, float("-inf"))
        masked[rows_of_all.seen_of(rows)] = float("-inf")
        own_items, own_best = best_items(masked, k, held.start)
        items[rows, : own_items.shape[1]], best[rows, : own_best.shape[1]] = own_items, own_best
    world = rows_of_all.division.world
    mine = [len(query)] * world
    # (processes, B, K) -> (B, processes x K): the best of each block
    items = exchanged(items, rows_of_all.counts, mine).unflatten(0, (world, len(query))).transpose(0, 1).flatten(1)
    best = exchanged(best, rows_of_all.counts, mine).unflatten(0, (world, len(query))).transpose(0, 1).flatten(1)
    by_hash = hashes(items).argsort(dim=1, stable=True)
    items, best = items.gather(1, by_hash), best.gather(1, by_hash)
    best, place = best.sort(dim=1, descending=True, stable=True)
    return items.gather(1, place)[:, :k], best[:, :k]
