"""state -> scores: the inner product with the item table, or whatever a function says of all items at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys_lab.contracts import ItemBlock, Scorer
from recsys_lab.ops.gathered_scores import gathered_scores


class TiedScorer(Scorer):
    """score(h, i) = <h, e_i> + b_i, with e_i the *input* embedding of item i (tied weights).

    Args:
        items: the item table, shared with the encoder's input.
        bias: learn a bias per item.
    """

    def __init__(self, items: nn.Embedding, bias: bool = False) -> None:
        super().__init__()
        self.items = items
        self.bias = nn.Parameter(torch.zeros(items.num_embeddings)) if bias else None

    @property
    def num_rows(self) -> int:
        return self.items.num_embeddings

    def scores(self, state: Tensor, items: Tensor | slice) -> Tensor:
        weight, sparse = self.items.weight, self.items.sparse
        if isinstance(items, slice):
            return F.linear(state, weight[items], None if self.bias is None else self.bias[items])  # (N, C)
        if items.ndim == 1:
            scores = state @ F.embedding(items, weight, sparse=sparse).T  # (N, C), one matrix product
        else:
            scores = gathered_scores(state, weight, items, sparse)  # (N, C)
        return scores if self.bias is None else scores + self.bias[items]

    def linear_blocks(self) -> Iterator[ItemBlock]:
        yield self.one_block()

    def one_block(self) -> ItemBlock:
        return ItemBlock(slice(0, self.num_rows), self.items.weight, self.bias)


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
