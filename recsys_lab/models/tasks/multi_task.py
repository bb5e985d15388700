"""MultiTask: several tasks on one encoder; the loss is the weighted sum of theirs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from recsys_lab.arguments import Positive
from recsys_lab.contracts import (
    Batch,
    DataSpec,
    Loss,
    NegativeSampler,
    Samples,
    Scorer,
    State,
    Task,
    TaskLoss,
)
from recsys_lab.words import QUERY, ArgumentError


class MultiTask(Task):
    """The next item and labels, or the next item and clicks: each task is trained on its own targets and is evaluated
    as if it were alone.

    Args:
        tasks: two or more, of which one ranks items. Either labels or clicks may be among the others.
        weights: of their losses, each the mean over its own targets; None = 1 each.
    """

    evaluation = "recsys_lab.evaluation.callback.RankingEvaluation recsys_lab.evaluation.outcomes.OutcomeEvaluation"
    tasks: nn.ModuleList

    def __init__(self, tasks: list[Task], weights: Sequence[Positive] | None = None) -> None:
        super().__init__()
        weights = [1.0] * len(tasks) if weights is None else list(weights)
        if len(tasks) < 2 or len(weights) != len(tasks):
            problem = f"are {len(tasks)}, with {len(weights)} weights: name two or more, and a weight of each or none"
            raise ArgumentError(type(self).__name__, "tasks", problem)
        if sum(task.ranks for task in tasks) != 1 or any(isinstance(task, MultiTask) for task in tasks):
            raise ArgumentError(type(self).__name__, "tasks", "must hold one task that ranks items, such as NextItem")
        self.tasks, self.weights = nn.ModuleList(tasks), weights
        asked = [task.samples for task in tasks]
        labels = [label for samples in asked for label in samples.labels]
        if len(set(labels)) < len(labels):
            raise ArgumentError(type(self).__name__, "tasks", f"name the label {labels[0]} twice")
        if any(samples.with_target_event for samples in asked):
            problem = "mix labels of the event itself, which its window holds, with the item, asked before it is there"
            raise ArgumentError(type(self).__name__, "tasks", f"{problem}: take `of: next`, or train them apart")
        shown = [task for task in tasks if task.samples.shown]
        if len(shown) > 1 or (shown and len(tasks) > 2):
            problem = "name what was shown beside other outcomes: join the next item and one task of clicks"
            raise ArgumentError(type(self).__name__, "tasks", problem)
        self.samples = Samples(tuple(labels), shown=bool(shown))
        self.reads_history = any(task.reads_history for task in tasks)

    # -- what others ask of the task that ranks ------------------------------------------------------------------------

    @property
    def loss_function(self) -> Loss | None:
        return next((found for task in self.tasks if (found := getattr(task, "loss_function", None))), None)

    @property
    def negatives(self) -> NegativeSampler | None:
        return next((found for task in self.tasks if (found := getattr(task, "negatives", None))), None)

    # -- training ------------------------------------------------------------------------------------------------------

    def build(self, spec: DataSpec, model: Any) -> None:
        if not (model.causal or model.last_positions_only):
            problem = f"are several, and {type(model).__name__} learns from masked items, which have no labels"
            raise ArgumentError(type(self).__name__, "tasks", f"{problem}: train the tasks apart, or another encoder")
        for task in self.each:
            task.build(spec, model)
        self.shown_metrics = tuple(f"{self._prefix(task)}{n}" for task in self.measured for n in task.shown_metrics)
        for parameter in model.scorer.parameters():  # labels alone freeze what only scores items
            parameter.requires_grad_(True)

    def prepare(self, item_counts: Tensor) -> None:
        for task in self.each:
            task.prepare(item_counts)

    def start_at(self, click_rate: float) -> None:
        for task in self.each:
            task.start_at(click_rate)

    def prepare_shown(self, item_counts: Tensor) -> None:
        for task in self.each:
            task.prepare_shown(item_counts)

    def losses(self, state: State, batch: Batch, scorer: Scorer, draws: torch.Generator | None) -> list[TaskLoss]:
        found = []
        for task, weight in zip(self.each, self.weights, strict=True):
            asked = (state.beside, batch.beside) if task.samples.shown else (state, batch)
            mean, total = task.loss(*asked, scorer, draws)  # type: ignore[arg-type]
            found.append(TaskLoss(mean * weight, total, name_of(task)))
        return found

    def loss(
        self, state: State, batch: Batch, scorer: Scorer, draws: torch.Generator | None
    ) -> tuple[Tensor, Tensor | int]:
        """The sum on this process, which weighs as the first task does."""
        found = self.losses(state, batch, scorer, draws)
        return torch.stack([part.mean for part in found]).sum(), found[0].total

    # -- evaluation ----------------------------------------------------------------------------------------------------

    def evaluate(self, state: State, batch: Batch, scorer: Scorer) -> dict[str, Tensor]:
        """-> the columns of each outcome, where there are several as `<task>/<column>`, and those that they share once;
        and the query to rank by. A batch of what was shown has the outcome of its own task alone."""
        found: dict[str, Tensor] = {}
        is_shown = batch.shown_rows is not None
        for task in self.each:
            if task.samples.shown is not is_shown:
                continue
            outcome = task.evaluate(state, batch, scorer)
            if task.ranks:
                found[QUERY] = outcome
            else:
                start = self._columns(task)
                found |= {name if name in SHARED else f"{start}{name}": column for name, column in outcome.items()}
        return found

    def metrics(self, outcome: Mapping[str, np.ndarray]) -> dict[str, Any]:
        return self._of_each("metrics", outcome)

    def facts(self, outcome: Mapping[str, np.ndarray]) -> dict[str, float]:
        return self._of_each("facts", outcome)

    def compared(self) -> dict[str, Any]:
        each = {name_of(task): task.compared() for task in self.measured}
        return each if len(each) > 1 else next(iter(each.values()))

    @property
    def name(self) -> str:
        """Of what it measures: a run of that task alone may stand beside it."""
        return type(self).__name__ if len(self.measured) > 1 else self.measured[0].name

    # -- details -------------------------------------------------------------------------------------------------------

    @property
    def each(self) -> list[Task]:
        return list(self.tasks)  # type: ignore[arg-type]

    @property
    def measured(self) -> list[Task]:
        """Those that give outcomes."""
        return [task for task in self.each if not task.ranks]

    def _prefix(self, task: Task) -> str:
        """In front of the names of metrics: where several tasks have them, and of clicks, since rankings have an `auc`
        of their own."""
        return f"{name_of(task)}_" if len(self.measured) > 1 or task.samples.shown else ""

    @property
    def prefix(self) -> str:
        """What its metrics are called beside those of the measured task alone."""
        return self._prefix(self.measured[0]) if len(self.measured) == 1 else ""

    def _columns(self, task: Task) -> str:
        return f"{name_of(task)}/" if len(self.measured) > 1 else ""

    def _of_each(self, what: str, outcome: Mapping[str, np.ndarray]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for task in self.measured:
            start = self._columns(task)
            own = {name.removeprefix(start): column for name, column in outcome.items()}
            own = {name: column for name, column in own.items() if "/" not in name}
            found |= {f"{self._prefix(task)}{name}": value for name, value in getattr(task, what)(own).items()}
        return found


SHARED = ("unit", "user", "history_length")
"""Columns that all outcomes of one evaluation have alike."""


def name_of(task: Task) -> str:
    """`event_type` of labels, else `next_item` and the like."""
    return str(getattr(task, "field", None) or re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(task).__name__).lower())
