"""ShardedItemTable: an ItemTable whose rows are divided among the processes that train together; `ops/shards.py`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys_lab.contracts import ItemBlock
from recsys_lab.models.blocks.item_table import ItemTable
from recsys_lab.ops import shards
from recsys_lab.words import PAD_ID, RecsysLabError

DRAWN_ROWS = 1 << 16
"""At once, of the first vectors. A multiple of 16: torch draws normal numbers by 16 on a CPU."""
_divides: ContextVar[bool] = ContextVar("divides", default=False)


@contextmanager
def divided(among_processes: bool) -> Iterator[None]:
    """Tables that `item_table` makes are divided."""
    token = _divides.set(among_processes)
    try:
        yield
    finally:
        _divides.reset(token)


def item_table(num_rows: int, embedding_dim: int) -> ItemTable:
    """What encoders make their table with."""
    return (ShardedItemTable if _divides.get() else ItemTable)(num_rows, embedding_dim)


class ShardedItemTable(ItemTable):
    """Holds a block of the vectors of the ids, and asks the others for theirs. What its parts add is made of what each
    process has: their weights, and the values of the fields.

    Its first vectors are those of an `ItemTable` on the same seed (on a CPU): each process draws those of all rows,
    some at a time, and keeps its own.
    """

    weight: nn.Parameter  # (n, D)

    def __init__(self, num_rows: int, embedding_dim: int) -> None:
        division = shards.Division.here(num_rows)
        own = torch.empty(division.held.stop - division.held.start, embedding_dim)
        nn.Embedding.__init__(self, len(own), embedding_dim, _weight=own)
        self.division = division
        self.num_embeddings, self.padding_idx = num_rows, PAD_ID
        self._without_parts()
        self.reset(1.0)  # as nn.Embedding does: the generator goes on from the same place

    @torch.no_grad()
    def reset(self, std: float) -> None:
        held, start = self.division.held, 0
        while start < self.num_embeddings:
            stop = min(start + DRAWN_ROWS, self.num_embeddings)
            if (self.num_embeddings - stop) * self.embedding_dim < 16:  # fewer are drawn in another way
                stop = self.num_embeddings
            drawn = self.weight.new_empty(stop - start, self.embedding_dim)
            nn.init.normal_(drawn, std=std)
            first, last = max(start, held.start), min(stop, held.stop)
            if first < last:
                self.weight[first - held.start : last - held.start] = drawn[first - start : last - start]
            start = stop
        if held.start == 0:
            self.weight[PAD_ID].zero_()

    @property
    def is_stored(self) -> bool:
        return False

    def forward(self, item_ids: Tensor) -> Tensor:
        return self._rows(item_ids)

    def id_rows(self, item_ids: Tensor) -> Tensor:
        if not self.training:
            shards.announce(shards.LOOK_UP, item_ids.device)
        distinct, place = item_ids.unique(return_inverse=True)
        return F.embedding(place, shards.looked_up(self.weight, distinct, self.division, self.sparse))

    def own_block(self) -> ItemBlock:
        held = self.division.held
        if self.is_plain:
            return ItemBlock(held, self.weight, None)
        own: Tensor = shards.Scaled.apply(self.weight, 1.0 / self.division.world)
        place = torch.arange(held.start, held.stop, device=own.device)
        return ItemBlock(held, shards.for_rows_of_block(self._with_parts(own, place)), None)

    def weight_block(self, items: slice) -> Tensor:
        raise RecsysLabError(
            "the item table is divided among the processes (--model.shard_items true), and this needs all of it: take "
            "the checkpoint to one process, where `test`, `predict` and Predictor put the table together"
        )

    @torch.no_grad()
    def forget_untrained(self, item_counts: Tensor) -> None:
        if not self.is_plain:
            self.weight[item_counts[self.division.held] == 0] = 0.0
