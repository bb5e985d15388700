"""Task: what is predicted, as the model, the data and the evaluation know it; and what it gives each of them.

Shape letters are in `words.py`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from recsys_lab.batch import Batch
from recsys_lab.config import Configurable
from recsys_lab.data_spec import DataSpec
from recsys_lab.scorer import Scorer, State


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
