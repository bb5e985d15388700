"""state -> scores: of a table that the encoder's input shares, or whatever a function says of all items at once."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from recsys_lab.contracts import Scorer
from recsys_lab.models.blocks.item_table import TiedScorer

__all__ = ["TiedScorer", "WholeRows"]


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
