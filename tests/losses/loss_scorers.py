"""Small scorers for the tests of losses."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recsys_lab.contracts import Scorer


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

    def item_weight(self) -> Tensor | None:
        return self.weight if self.linear else None

    def item_bias(self) -> Tensor | None:
        return self.bias

    def all_items(self, hidden: Tensor) -> Tensor:
        return nn.functional.linear(hidden, self.weight, self.bias)

    def candidates(self, hidden: Tensor, item_ids: Tensor) -> Tensor:
        bias = 0.0 if self.bias is None else self.bias[item_ids]
        if item_ids.dim() == 1:
            return hidden @ self.weight[item_ids].T + bias
        return torch.einsum("nd,ncd->nc", hidden, self.weight[item_ids]) + bias
