"""Small scorers for the tests of losses."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from recsys_lab.contracts import ItemBlock, Scorer


class TableScorer(Scorer):
    """A linear scorer over one table; `linear=False` hides the table from the loss."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None, linear: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.clone())
        self.bias = None if bias is None else nn.Parameter(bias.clone())
        self.linear = linear

    @classmethod
    def random(
        cls, num_items: int, dim: int, bias: bool = False, linear: bool = True, dtype: torch.dtype = torch.float32
    ) -> TableScorer:
        generator = torch.Generator().manual_seed(num_items + dim)
        weight = torch.randn(num_items + 1, dim, generator=generator, dtype=dtype)
        return cls(weight, torch.randn(num_items + 1, generator=generator, dtype=dtype) if bias else None, linear)

    @classmethod
    def of_scores(cls, scores: Tensor) -> TableScorer:
        """Items 1.. get `scores` for the hidden state [1.0]."""
        return cls(torch.cat([torch.zeros(1), scores])[:, None])

    @property
    def num_rows(self) -> int:
        return len(self.weight)

    def linear_blocks(self) -> Iterator[ItemBlock] | None:
        return iter([ItemBlock(slice(0, self.num_rows), self.weight, self.bias)]) if self.linear else None

    def scores(self, state: Tensor, items: Tensor | slice) -> Tensor:
        bias = 0.0 if self.bias is None else self.bias[items]
        if isinstance(items, slice) or items.dim() == 1:
            return state @ self.weight[items].T + bias
        return torch.einsum("nd,ncd->nc", state, self.weight[items]) + bias


class TwoBlocks(TableScorer):
    """The same scores, whose table comes in two blocks, as that of two machines would."""

    def linear_blocks(self) -> Iterator[ItemBlock]:
        middle = self.num_rows // 3 + 1
        for items in (slice(0, middle), slice(middle, self.num_rows)):
            yield ItemBlock(items, self.weight[items], None if self.bias is None else self.bias[items])


class Distances(TableScorer):
    """Scores that are no product: minus the distance of state and item."""

    def linear_blocks(self) -> None:
        return None

    def scores(self, state: Tensor, items: Tensor | slice) -> Tensor:
        rows = self.weight[items]
        rows = rows if rows.dim() == 3 else rows.expand(len(state), -1, -1)
        scores = -(rows - state[:, None]).square().sum(2)
        return scores if self.bias is None else scores + self.bias[items]
