"""state -> scores: the inner product with the item table, or whatever a function says of all items at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys_lab.contracts import ItemBlock, Scorer
from recsys_lab.models.blocks.item_table import ItemTable
from recsys_lab.ops.gathered_scores import gathered_scores


class TiedScorer(Scorer):
    """score(h, i) = <h, e_i> + b_i, with e_i the *input* embedding of item i (tied weights).

    Args:
        items: the item table, shared with the encoder's input.
        bias: learn a bias per item.
    """

    def __init__(self, items: ItemTable, bias: bool = False) -> None:
        super().__init__()
        self.items = items
        self.bias = nn.Parameter(torch.zeros(items.num_embeddings)) if bias else None

    @property
    def num_rows(self) -> int:
        return self.items.num_embeddings

    def scores(self, state: Tensor, items: Tensor | slice) -> Tensor:
        table, bias = self.items, self.bias
        if isinstance(items, slice):
            return F.linear(state, table.weight_block(items), None if bias is None else bias[items])  # (N, C)
        if items.ndim == 1:
            scores = state @ table(items).T  # (N, C), one matrix product
        elif table.is_plain:
            scores = gathered_scores(state, table.weight, items, table.sparse)  # (N, C)
        else:
            distinct, place = items.unique(return_inverse=True)  # the row of each is made once
            scores = gathered_scores(state, table(distinct), place)
        return scores if bias is None else scores + bias[items]

    def linear_blocks(self) -> Iterator[ItemBlock]:
        for items in self.items.blocks():
            yield ItemBlock(items, self.items.weight_block(items), None if self.bias is None else self.bias[items])

    def one_block(self) -> ItemBlock | None:
        if self.items.num_blocks > 1:
            return None
        every = slice(0, self.num_rows)
        return ItemBlock(every, self.items.weight_block(every), self.bias)


class WholeRows(Scorer):
    """The scores of a model that makes those of all items at once.

    Args:
        score: (N, ...) -> (N, V).
        num_rows: V.
    """

    def __init__(self, score: Callable[[Tensor], Tensor], num_rows: int) -> None:
        super().__init__()
        self._score, self._num_rows = score, num_rows

    @property
    def num_rows(self) -> int:
        return self._num_rows

    def scores(self, state: Tensor, items: Tensor | slice) -> Tensor:
        rows = self._score(state)
        return rows[:, items] if isinstance(items, slice) or items.ndim == 1 else rows.gather(1, items)
