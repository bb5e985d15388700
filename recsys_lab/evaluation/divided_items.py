"""Ranks and lists of a batch where the item table is divided among processes, each of which scores its own items.

The processes may have different numbers of batches. Each says what it asks before it does, and who has none left
answers the others until all are done (`answer_others`)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from recsys_lab.contracts import Batch, ItemBlock, Scorer
from recsys_lab.evaluation.measure import Measure, ScoredRows
from recsys_lab.ops import shards
from recsys_lab.ops.ranks import Ties
from recsys_lab.ops.sharded_ranks import sharded_target_ranks, sharded_top_items
from recsys_lab.words import RecsysLabError


def check_measures(model: Any, measures: list[Measure]) -> None:
    """Raises RecsysLabError for what asks for all scores of a row, which no process has."""
    for measure in measures:
        if measure.needs_scores and _block_of(model) is not None:
            raise RecsysLabError(
                f"--evaluation.measures {type(measure).__name__} needs the scores of all items, and the item table is "
                "divided (--model.shard_items true): test the checkpoint on one process (--trainer.devices 1)"
            )


def divided_rows(
    model: Any, query: Tensor, batch: Batch, is_candidate: Tensor, ties: Ties, k: int = 0
) -> tuple[ScoredRows, ScoredRows | None] | None:
    """The batch ranked: a row for each target; and with k, for measures, those of the first targets with their lists.
    None where the table is whole."""
    block = _block_of(model)
    if block is None:
        return None
    assert batch.target_event is not None and batch.seen_ids is not None and batch.seen_offsets is not None
    targets, events, seen = batch.target_ids, batch.target_event, (batch.seen_ids, batch.seen_offsets)
    is_first = torch.ones(len(query), dtype=torch.bool, device=query.device)
    if batch.target_mask is not None:  # several of a row: the row once for each
        row, place = batch.target_mask.nonzero().unbind(1)
        query, targets, events, is_first = query[row], targets[row, place], events[row, place], place == 0
        seen = repeated(*seen, row)
    shards.announce(shards.RANKS, query.device)
    ranks = sharded_target_ranks(query, block, targets, is_candidate, *seen, ties)
    rows = ScoredRows(query.new_empty(len(query), 0), events, targets, *seen, ranks, is_candidate)
    if not k:
        return rows, None
    first = rows.select(is_first)
    shards.announce(shards.TOP, query.device)
    items, _ = sharded_top_items(query[is_first], block, is_candidate, first.seen_ids, first.seen_offsets, k)
    return rows, replace(first, lists=items)


def divided_lists(
    model: Any, query: Tensor, batch: Batch, is_candidate: Tensor, k: int
) -> tuple[slice, Tensor, Tensor] | None:
    """The batch's rows, items (B, K) and scores (B, K); None where the table is whole."""
    block = _block_of(model)
    if block is None:
        return None
    shards.announce(shards.TOP, query.device)
    return slice(0, len(batch)), *sharded_top_items(query, block, is_candidate, batch.seen_ids, batch.seen_offsets, k)


def answer_others(model: Any, is_candidate: Tensor, k: int = 1) -> None:
    """After a process's last batch: takes part in what the others ask, until all are done. Nothing to do where the
    table is whole."""
    block = _block_of(model)
    if block is None:
        return
    device = is_candidate.device
    no_ids = torch.zeros(0, dtype=torch.int64, device=device)
    no_query = block.weight.new_zeros(0, block.weight.shape[1])
    with torch.no_grad():
        while (asked := shards.announce(shards.DONE, device)) != shards.DONE:
            if asked == shards.LOOK_UP:
                shards.looked_up(model.scorer.items.weight, no_ids, model.scorer.items.division)
            elif asked == shards.RANKS:
                sharded_target_ranks(no_query, block, no_ids, is_candidate)
            else:
                sharded_top_items(no_query, block, is_candidate, None, None, k)


def _block_of(model: Any) -> ItemBlock | None:
    counts = getattr(model, "scores_whole_rows", False)  # then its scorer may not be there yet
    scorer: Scorer | None = None if counts else getattr(model, "scorer", None)
    return None if scorer is None else scorer.own_block()


def repeated(ids: Tensor, offsets: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Of flat lists, `ids[offsets[b]:offsets[b + 1]]` of row b, those of `rows` (N,), which may come several times."""
    lengths = offsets.diff()[rows]
    ends = torch.nn.functional.pad(lengths.cumsum(0), (1, 0))
    place = torch.arange(int(ends[-1]), device=ids.device)
    return ids[place + (offsets[rows] - ends[:-1]).repeat_interleave(lengths)], ends
