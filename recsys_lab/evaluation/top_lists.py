"""Scores -> the best items of each row, a block of rows at a time: the one way in which lists are made."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from recsys_lab.contracts import Batch
from recsys_lab.evaluation.divided_items import divided_lists
from recsys_lab.evaluation.row_blocks import row_blocks
from recsys_lab.ops.top_items import top_items, top_items_of_product


def top_lists(
    model: Any,
    query: Tensor,
    batch: Batch,
    is_candidate: Tensor,
    k: int,
    max_bytes: int,
    allowed: tuple[Tensor, Tensor] | None = None,
) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """The best K items of each row, best first (`ops/top_items.py` has the order of ties).

    Args:
        model: with `score(query)`, and where that is a product with one table, `score_table()`.
        query: (B, ...) of `model.query(batch)`.
        batch: with the items that lists leave out, `seen_ids` and `seen_offsets`.
        is_candidate: (V,) bool.
        k: K.
        max_bytes: bound on the scores of a block.
        allowed: ids (S,) and offsets (B + 1,): row b is given items of `ids[offsets[b]:offsets[b + 1]]` only.

    Yields:
        The rows of a block, items (rows, K) int64 and scores (rows, K); `PAD_ID` and -inf where fewer are left.
    """
    divided = divided_lists(model, query, batch, is_candidate, k) if allowed is None else None
    if divided is not None:
        yield divided
        return
    table = model.score_table() if allowed is None and hasattr(model, "score_table") else None
    if table is not None and query.device.type == "cpu" and not torch.is_grad_enabled():
        weight, bias = table.weight.float(), None if table.bias is None else table.bias.float()
        for rows, seen, offsets in row_blocks(batch, len(is_candidate), max_bytes):
            with torch.autocast("cpu", enabled=False):  # lists are always of float32
                yield rows, *top_items_of_product(query[rows].float(), weight, bias, is_candidate, seen, offsets, k)
        return
    for rows, seen, offsets in row_blocks(batch, len(is_candidate), max_bytes):
        mask = is_candidate if allowed is None else _own_candidates(is_candidate, *allowed, rows)
        yield rows, *top_items(model.score(query[rows]), mask, seen, offsets, k)


def _own_candidates(is_candidate: Tensor, ids: Tensor, offsets: Tensor, rows: slice) -> Tensor:
    """(rows, V) bool."""
    bounds = offsets[rows.start : rows.stop + 1]
    owner = torch.repeat_interleave(bounds.diff())
    mask = torch.zeros(rows.stop - rows.start, len(is_candidate), dtype=torch.bool, device=is_candidate.device)
    mask[owner, ids[bounds[0] : bounds[-1]]] = True
    return mask & is_candidate
