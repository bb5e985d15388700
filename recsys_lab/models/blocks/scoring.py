"""state -> scores: of a table that the encoder's input shares, or whatever a function says of all items at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch.nn.functional as F
from torch import Tensor

from recsys_lab.contracts import ItemBlock, Scorer
from recsys_lab.models.blocks.item_table import ItemTable, TiedScorer
from recsys_lab.ops.gathered_scores import gathered_scores

__all__ = ["CosineScorer", "TiedScorer", "WholeRows"]


class CosineScorer(TiedScorer):
    """score(h, i) = <h, e_i / |e_i|> / temperature, with e_i the input vector of item i: a cosine, where the encoder
    gives states of length 1.

    Args:
        items: the item table, shared with the encoder's input.
        temperature: above 0.
    """

    def __init__(self, items: ItemTable, temperature: float) -> None:
        super().__init__(items)
        self.temperature = temperature

    def scores(self, state: Tensor, items: Tensor | slice) -> Tensor:
        if isinstance(items, slice):
            return state @ self._directions(self.items.weight_block(items)).T  # (N, C)
        if items.ndim == 1:
            return state @ self._directions(self.items(items)).T
        distinct, place = items.unique(return_inverse=True)  # the row of each is made once
        return gathered_scores(state, self._directions(self.items(distinct)), place)  # (N, C)

    def own_block(self) -> ItemBlock | None:
        block = super().own_block()
        return None if block is None else block._replace(weight=self._directions(block.weight))

    def linear_blocks(self) -> Iterator[ItemBlock]:
        for block in super().linear_blocks():
            yield block._replace(weight=self._directions(block.weight))

    def one_block(self) -> ItemBlock | None:
        block = super().one_block()
        return None if block is None else block._replace(weight=self._directions(block.weight))

    def _directions(self, rows: Tensor) -> Tensor:
        return F.normalize(rows, dim=-1) / self.temperature


class WholeRows(Scorer):
    """The scores of a model that makes those of all items at once.

    Args:
        score: (N, ...) -> (N, V).
        num_rows: V.
    """

    scores_untrained = True  # what was counted of them, nothing, is what is known

    def __init__(self, score: Callable[[Tensor], Tensor], num_rows: int) -> None:
        super().__init__()
        self._score, self._num_rows = score, num_rows

    @property
    def num_rows(self) -> int:
        return self._num_rows

    def scores(self, state: Tensor, items: Tensor | slice) -> Tensor:
        rows = self._score(state)
        return rows[:, items] if isinstance(items, slice) or items.ndim == 1 else rows.gather(1, items)
