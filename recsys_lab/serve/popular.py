"""PopularItems: what is recommended to somebody of whom nothing is known."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from recsys_lab.contracts import Batch


class PopularItems:
    """score(i) = training events of item i, for everybody alike; as much of a model as lists ask for.

    Args:
        counts: (V,) training events of each item.
    """

    def __init__(self, counts: Tensor) -> None:
        self.counts = counts

    def score(self, query: Tensor) -> Tensor:
        """(rows, 1) of anything -> (rows, V)."""
        return self.counts.float().expand(len(query), -1)

    def asked(self, rows: int) -> tuple[Tensor, Batch]:
        """The query and the batch of users without events."""
        one = torch.zeros(rows, 1, dtype=torch.int64, device=self.counts.device)
        batch = Batch(one, one[:, 0], one > 0, one, one[:, 0], one[:, 0] - 1)
        nothing = one.new_zeros(0)
        return one, replace(batch, seen_ids=nothing, seen_offsets=one.new_zeros(rows + 1))
