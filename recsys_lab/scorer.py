"""Scorer: what a model knows of a row, its `State`, -> scores of items.

Shape letters are in `words.py`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, NamedTuple

from torch import Tensor, nn


class State(NamedTuple):
    """What a model knows of B rows."""

    query: Tensor | None  # (B, D), in evaluation: what the scores depend on; counted models have shapes of their own
    history: Tensor | None = None  # (B, L, D), in training: the hidden state at each position
    memory: Any = None  # what a model that takes one event at a time goes on from
    beside: State | None = None  # of `Batch.beside`


class ItemBlock(NamedTuple):
    """Some rows of an item table: `scores(hidden, items) == hidden @ weight.T + bias`."""

    items: slice  # of ids, start and stop written out
    weight: Tensor  # (n, D) float
    bias: Tensor | None  # (n,) float


class Scorer(nn.Module, ABC):
    """What a model knows of a row, its state, -> scores of items.

    A linear scorer also shows its table block by block: fused losses and fast ranks use it, and everything else works
    without. A prior, a rule or a mask is a scorer around a scorer.
    """

    numbers_per_score: int = 1
    """What it holds for a score until the gradients are made: losses go over fewer items at once where it is more."""
    scores_untrained: bool = False
    """Says something of items without a training event, by what else is known of them."""

    @property
    @abstractmethod
    def num_rows(self) -> int:
        """V: ids go from 0, which is padding, to V - 1."""

    @abstractmethod
    def scores(self, state: Tensor, items: Tensor | slice) -> Tensor:
        """Scores of chosen items.

        Args:
            state: (N, D), for most models the hidden state.
            items: ids (C,) that all rows share, ids (N, C) of each row's own, or a slice of the ids.

        Returns:
            (N, C). What stands at `PAD_ID` means nothing.
        """

    def all_scores(self, state: Tensor) -> Tensor:
        """(N, D) -> (N, V)."""
        return self.scores(state, slice(0, self.num_rows))

    def linear_blocks(self) -> Iterator[ItemBlock] | None:
        """The table, where scores are the product of state and table: blocks that lie side by side and cover the ids
        0..V-1 in ascending order, made one at a time. None where scores are not of that form."""
        return None

    def one_block(self) -> ItemBlock | None:
        """The whole table, where `linear_blocks` gives it as one block; else None."""
        first = next(self.linear_blocks() or iter(()), None)
        return first if first is not None and first.items == slice(0, self.num_rows) else None

    def own_block(self) -> ItemBlock | None:
        """The rows that this process holds, where the table is divided among the processes that train or evaluate
        together (`ops/shards.py`): then nobody is given all scores of a row. None where each has the whole table."""
        return None
