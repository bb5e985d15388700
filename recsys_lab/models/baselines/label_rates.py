"""Labels by their rates: the most frequent one, that of the item, what followed the last one. Counted, for the task
`SequenceLabels`."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from recsys_lab.arguments import NotNegative
from recsys_lab.batch import FIRST_VALUE
from recsys_lab.contracts import Batch, DataSpec, Task
from recsys_lab.models.baselines.counting import CountingModel
from recsys_lab.models.tasks.sequence_labels import SequenceLabels
from recsys_lab.words import ArgumentError, RecsysLabError


class LabelRates(CountingModel):
    """The rate of each class among the training events, or the mean of the numbers; after a subclass's `given`, drawn
    towards that of all events.

    Args:
        task: `SequenceLabels`.
        prior: weight of the rates of all events, in events.
    """

    is_base = True  # no model by itself
    given: ClassVar[Literal["nothing", "item", "label"]]
    answers_labels = True
    rates: Tensor

    def __init__(self, task: Task, prior: NotNegative = 5.0) -> None:
        super().__init__()
        if not isinstance(task, SequenceLabels):
            problem = f"must be SequenceLabels, not {type(task).__name__}: it predicts labels"
            raise ArgumentError(type(self).__name__, "task", problem, type(task).__name__)
        self.task: SequenceLabels = task
        self.prior = prior

    def build(self, spec: DataSpec) -> None:
        (label,) = (one for one in spec.labels if one.name == self.task.field)
        self.is_class = label.kind == "categorical"
        self.num_classes = label.size - FIRST_VALUE if self.is_class else 1
        rows = {"nothing": 1, "item": spec.num_rows, "label": label.size}[self.given]
        self.register_buffer("rates", torch.zeros(rows, self.num_classes))  # log-rates, or means

    def count(self, datamodule: Any) -> None:
        """Of the events of the training part that may be targets: all but a user's first."""
        events, position = datamodule.events, datamodule.train_positions
        first = np.isin(position, events.offsets[:-1])
        position = position[~first]
        if events.rules.is_target is not None:
            position = position[events.rules.is_target[position]]
        column = events.labels[self.task.field]
        label, before = (column.take(at, at >= 0).numpy() for at in (position, position - 1))
        item = events.item_ids[position if self.task.samples.with_target_event else position - 1]
        if not self.is_class:
            given = np.zeros_like(item) if self.given == "nothing" else item
            self.rates = self._means(label, given.astype(np.int64))
            return
        given = {"nothing": np.zeros_like(item), "item": item, "label": before}[self.given].astype(np.int64)
        cell = given * self.num_classes + label - FIRST_VALUE
        counts = np.bincount(cell, minlength=len(self.rates) * self.num_classes).reshape(-1, self.num_classes)
        overall = (counts.sum(0) + 1) / (counts.sum() + self.num_classes)  # no class has the rate 0
        rates = (counts + self.prior * overall) / (counts.sum(1, keepdims=True) + self.prior)
        with np.errstate(divide="ignore"):  # without a prior
            self.rates = torch.from_numpy(np.log(rates)).float().to(self.device)

    def _means(self, label: np.ndarray, given: np.ndarray) -> Tensor:
        """label: (N, 2) standardised number, and 1 where there is none."""
        known = label[:, 1] == 0
        value, given = label[known, 0].astype(np.float64), given[known]
        total, count = (np.bincount(given, weights, len(self.rates)) for weights in (value, np.ones_like(value)))
        overall = value.mean() if len(value) else 0.0
        means = (total + self.prior * overall) / np.maximum(count + self.prior, 1e-12)
        return torch.from_numpy(means).float().unsqueeze(1).to(self.device)

    def query(self, batch: Batch) -> Tensor:
        """-> (B, C) log-rates, or (B, 1) the number."""
        last = (batch.lengths - 1)[:, None]
        if self.given == "label":
            label = batch.event[self.task.field]
            if not self.is_class:
                return label[..., 0].gather(1, last)  # the number itself; the mean where there is none
            return self.rates[label.gather(1, last).squeeze(1)]
        if self.given == "item":
            return self.rates[batch.item_ids.gather(1, last).squeeze(1)]
        return self.rates.expand(len(batch), -1)

    def score(self, query: Tensor) -> Tensor:
        raise RecsysLabError(f"{type(self).__name__} predicts labels, and ranks no items")


class MajorityLabel(LabelRates):
    """The rates of the classes among all training events: the most frequent one is the prediction."""

    given = "nothing"


class ItemMajorityLabel(LabelRates):
    """The rates of what came with the item, or where the label of the next event is asked, after it."""

    given = "item"


class PreviousLabel(LabelRates):
    """The rates of what followed the last label; of a number the last one itself."""

    given = "label"
