"""What the rooms promise each other: `Loss`, `NegativeSampler`, `Samples`, `Task`; and from files of their own `Batch`,
`DataSpec`, and `Scorer` with `State`.

Shape letters are in `words.py`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from recsys_lab.batch import Batch, Field, Label
from recsys_lab.config import Configurable
from recsys_lab.data_spec import DataSpec
from recsys_lab.scorer import ItemBlock, Scorer, State
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


class UnitMetric(NamedTuple):
    """A metric as the weighted mean of one value for each unit: what a mean, an interval and a test need of it.

    A metric that is no mean, such as an area under a curve, has for each unit the metric plus N times its influence:
    the mean is then the metric itself, and the variance of that mean over users is its own (the delta method).
    """

    value: np.ndarray  # (N,) float64
    weight: np.ndarray | None = None  # (N,) not negative; 0 = the unit is left out; None = 1 each


class TaskLoss(NamedTuple):
    """A part of the loss."""

    mean: Tensor  # over the targets of this process, times the weight of the part
    total: Tensor | int  # of the weights of these targets, by which means of processes are weighed
    name: str = ""  # logged as train/loss_<name>


@dataclass(frozen=True)
class Samples:
    """What a task asks of the data beside histories and next items: `SequenceDataModule.give`."""

    labels: tuple[str, ...] = ()
    """Event fields to predict: `Batch.target_labels` has their values."""
    with_target_event: bool = False
    """Windows end with the event whose labels are asked: all is known of it but those. The labels among the inputs come
    one event late, so that at each position those of the event before are known."""
    only_labelled: bool = False
    """Events without a label are no targets of training."""
    windows: bool = True
    """Windows of events with their next items."""
    shown: bool = False
    """What users were shown (`--data.shown`). Where windows are asked for too, a batch of them in training has one of
    these as its `beside`, and evaluation has the batches of both, one after the other."""
    served: tuple[tuple[str, Any], ...] = ()
    """Fields of shown items with the raw value that each is served with, which the training part must have."""


class Measured(NamedTuple):
    """A task that gives an outcome, as one of several is called."""

    task: Task
    name: str = ""  # in front of its columns, `<name>/<column>`; empty where it is alone
    prefix: str = ""  # in front of the names of its metrics


class Task(Configurable, nn.Module, ABC):
    """What is predicted: which targets, which loss, and what evaluation is given. No encoder knows one.

    `evaluate` of a task that ranks gives the query. One that does not says `ranks = False` and names
    `OutcomeEvaluation` as its `evaluation`: its `evaluate` gives an outcome, and `metrics` makes the metrics of that.
    """

    samples: Samples = Samples()

    evaluation: str
    """Class path of the callback that turns what `evaluate` gives into values, where the user names none; of several,
    with blanks between them."""
    compiled: tuple[str, ...] = ()
    """Names of methods that `--model.compile_model true` compiles."""
    ranks: bool = True
    """All items are ranked in evaluation, by the scorer."""
    shown_metrics: tuple[str, ...] = ()
    """Where nothing is ranked: the metrics that tables show. The first decides, in a comparison and over epochs."""
    watched: str = ""
    """What chooses the epoch, where nothing is ranked; empty: the first of `shown_metrics`."""
    fact_names: tuple[str, ...] = ()
    """What `facts` gives, `f1_*` for all that begin so: may be watched, as `shown_metrics` may. Empty: not known."""
    reads_history: bool = False
    """`evaluate` wants `state.history` too, and not the query alone."""

    @property
    def name(self) -> str:
        """In the manifest: by it two runs have the same task."""
        return type(self).__name__

    @property
    def measured(self) -> list[Measured]:
        """The tasks whose outcomes `evaluate` gives, beside a ranking or without one."""
        return [] if self.ranks else [Measured(self)]

    def build(self, spec: DataSpec, model: Any) -> None:
        """Makes the modules of its own whose sizes depend on the data. Called once, when those of the model are there.

        Args:
            model: a `SequenceModel` with its `scorer`.
        """
        return None

    def prepare(self, item_counts: Tensor) -> None:
        """Called once before training. item_counts: (V,) int64 events per item in the training part, [0] = 0."""
        return None

    def prepare_shown(self, item_counts: Tensor) -> None:
        """The same, where `samples.shown`: with 1 for items that the training part shows and that have no event in
        it."""
        return None

    def start_at(self, click_rate: float) -> None:
        """Called once for a new model, where `samples.shown`, with the share of clicks in the training part."""
        return None

    @abstractmethod
    def loss(
        self, state: State, batch: Batch, scorer: Scorer, draws: torch.Generator | None
    ) -> tuple[Tensor, Tensor | int]:
        """The mean over the targets of this process, and the sum of their weights (without weights their number), by
        which means of processes and of accumulated steps are weighed.

        Args:
            state: with `history` (B, L, D); of an encoder that is not causal, where nothing is ranked, with `query`
                (B, D) at each window's end.
            draws: for negatives, on the device.
        """

    def losses(self, state: State, batch: Batch, scorer: Scorer, draws: torch.Generator | None) -> list[TaskLoss]:
        """`loss` in parts that are weighed apart, where several tasks have targets of their own."""
        return [TaskLoss(*self.loss(state, batch, scorer, draws))]

    @abstractmethod
    def evaluate(self, state: State, batch: Batch, scorer: Scorer) -> Any:
        """What the callback `evaluation` is given for a batch. state: with `query` (B, D).

        For `OutcomeEvaluation` that is an outcome: name -> (N,) or (N, n) of each of this batch's N units. Among them
        are `unit` (int64, each once in the whole evaluation: by it the rows of all processes are sorted) and `user`
        (int64, the row of the user); the rest are what `metrics` needs and what slices cut by.
        """

    def metrics(self, outcome: Mapping[str, np.ndarray]) -> dict[str, UnitMetric]:
        """The outcome of a whole evaluation, sorted by unit -> its metrics, those of `shown_metrics` among them."""
        raise NotImplementedError(f"{type(self).__name__} must define metrics(outcome), or name another evaluation")

    def facts(self, outcome: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Numbers of the whole outcome that are no metric of units and take part in no test, such as what was left
        out."""
        return {}

    def compared(self) -> dict[str, Any]:
        """What must agree for two runs' metrics to mean the same thing; plain data. Of a task that does not rank."""
        return {}
