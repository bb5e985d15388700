"""What the rooms promise each other: `Loss`, `AuxiliaryLoss`, `NegativeSampler`; and from files of their own `Batch`,
`DataSpec`, `Scorer` with `State`, and `Task` with `Samples`.

Shape letters are in `words.py`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from recsys_lab.batch import Batch, Field, Label
from recsys_lab.config import Configurable
from recsys_lab.data_spec import DataSpec
from recsys_lab.scorer import ItemBlock, Scorer, State
from recsys_lab.task import Measured, Samples, Task, TaskLoss, UnitMetric
from recsys_lab.words import ArgumentError

__all__ = [
    "AuxiliaryLoss",
    "Batch",
    "DataSpec",
    "Field",
    "ItemBlock",
    "Label",
    "Loss",
    "Measured",
    "Negatives",
    "NegativeSampler",
    "Samples",
    "Scorer",
    "State",
    "Task",
    "TaskLoss",
    "UnitMetric",
    "candidate_ids",
]


@dataclass(frozen=True)
class Negatives:
    """Sampled items that are not meant as targets; they may collide with one: the loss says how it handles that."""

    item_ids: Tensor  # (C,) shared by all positions, or (N, C)
    log_q: Tensor  # same shape as item_ids: log of the expected number of draws of the item among the C
    target_log_q: Tensor  # (N,): the same for each target


MANY_NEGATIVES = 1024
"""So many may be drawn, with replacement, from any number of items: the defaults of the losses are below it."""


def candidate_ids(item_counts: Tensor) -> Tensor:
    """(V,) training events of each item -> (C,) int64 ascending: the candidates, which are the items with any. Losses,
    negatives, ranks and probabilities use this one set; rows of other items are never scored, drawn or trained."""
    return item_counts[1:].nonzero().squeeze(1) + 1


class NegativeSampler(Configurable, ABC):
    """Draws negatives. `prepare` is called once with the counts of the training part."""

    @abstractmethod
    def prepare(self, item_counts: Tensor) -> None:
        """item_counts: (V,) int64 events per item in the training part, [0] = 0. Items without any are never drawn."""

    def check_number(self, num_items: int) -> None:
        """Raises ArgumentError for many more draws than there are items: a slip, or a task for full cross-entropy."""
        number = getattr(self, "num_negatives", None) or 0
        if number > max(num_items, MANY_NEGATIVES):
            problem = f"is {number:,}, and there are {num_items:,} items: the loss CrossEntropy takes each of them once"
            raise ArgumentError(type(self).__name__, "num_negatives", problem, number)

    @abstractmethod
    def sample(self, target_ids: Tensor, generator: torch.Generator | None) -> Negatives:
        """target_ids: (N,) ids in 1..num_items."""


class Loss(Configurable, nn.Module, ABC):
    """loss(hidden (N, D), target_ids (N,), scorer, negatives, weights) -> scalar, the mean over the N targets."""

    default_negatives: int = 0
    """How many uniform negatives the task draws when the user names no sampler; 0 = this loss takes none."""
    compiles: bool = True
    """`torch.compile` may have it. False where it would compile for every number of targets anew, or gain nothing."""
    all_items: bool = False
    """Its gradient reaches every item and not only targets and negatives: not for row-sparse optimisers."""

    def prepare(self, item_counts: Tensor) -> None:
        """Called once before training, as a sampler's `prepare` is; for losses that go over the items themselves. One
        that was not prepared takes every item for a candidate.

        Args:
            item_counts: (V,) int64 events per item in the training part, [0] = 0; see `candidate_ids`.
        """
        return None

    @abstractmethod
    def forward(
        self,
        hidden: Tensor,
        target_ids: Tensor,
        scorer: Scorer,
        negatives: Negatives | None = None,
        weights: Tensor | None = None,
    ) -> Tensor:
        """-> scalar in float32, the mean over the targets. With `weights` (N,), not negative, their weighted mean."""


class AuxiliaryLoss(Configurable, nn.Module, ABC):
    """One more loss beside that of the task, which it is added to: share x its value."""

    share: float

    @abstractmethod
    def forward(
        self,
        encode: Callable[[Batch], Tensor],
        state: State,
        batch: Batch,
        scorer: Scorer,
        draws: torch.Generator | None,
    ) -> Tensor:
        """-> scalar, the mean over this process's rows or targets.

        Args:
            encode: of the model, for another view of the batch: each call draws dropout masks of its own.
            state: with the `history` that the task has. draws: for random numbers that are not dropout.
        """
