"""Accumulated steps: the mean over all targets of the batches that make one step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from recsys_lab.models.training_steps import GlobalLoss


class Accumulation:
    """Lightning divides each batch's loss by the number of batches, as if all had as many targets. Here a batch weighs
    what its targets weigh, in units of the first one's; how much that is in all is known at the last batch, when the
    gradients are put right. Where all batches have as many targets nothing is changed.
    """

    def __init__(self) -> None:
        self._first: Tensor | float | None = None
        self._total: Tensor | float = 0.0

    def add(self, whole: GlobalLoss) -> Tensor | float:
        """-> what this batch's loss is multiplied by before its backward pass."""
        if self._first is None:
            self._first = whole.total
        self._total = self._total + whole.total
        return whole.weight * (whole.total / self._first)

    @torch.no_grad()
    def finish(self, model: nn.Module, batches: int) -> None:
        """Before the step. batches: what Lightning divided each loss by."""
        if self._first is None:
            return
        factor = float(batches * self._first / self._total)
        if factor != 1.0:
            for parameter in model.parameters():
                if parameter.grad is not None:
                    parameter.grad.mul_(factor)
        self.__init__()  # type: ignore[misc]
