"""MultiTask: several tasks on one encoder; the loss is the weighted sum of theirs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from recsys_lab.arguments import Positive
from recsys_lab.contracts import (
    Batch,
    DataSpec,
    Loss,
    Measured,
    NegativeSampler,
    Samples,
    Scorer,
    State,
    Task,
    TaskLoss,
)
from recsys_lab.words import QUERY, ArgumentError


class MultiTask(Task):
    """The next item with labels, with clicks, or with both: each task is trained on its own targets and is evaluated as
    if it were alone.

    Args:
        tasks: two or more, of which one ranks items. The others predict labels, and one of them may predict clicks.
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
        if len(shown) > 1:
            raise ArgumentError(type(self).__name__, "tasks", f"name {type(shown[0]).__name__} twice: one is enough")
        served = shown[0].samples.served if shown else ()
        self.samples = Samples(tuple(labels), shown=bool(shown), served=served)
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
        self.shown_metrics = tuple(f"{one.prefix}{n}" for one in self.measured for n in one.task.shown_metrics)
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
        """-> the columns of each outcome as `<task>/<column>`, and the query to rank by. A batch of what was shown has
        the outcome of its own task alone."""
        found: dict[str, Tensor] = {}
        is_shown = batch.shown_rows is not None
        for task in self.each:
            if task.samples.shown is not is_shown:
                continue
            outcome = task.evaluate(state, batch, scorer)
            if task.ranks:
                found[QUERY] = outcome
            else:
                found |= {f"{name_of(task)}/{name}": column for name, column in outcome.items()}
        return found

    @property
    def measured(self) -> list[Measured]:
        """Metrics have the name of their task in front where several tasks have them; and those of clicks, since
        rankings have an `auc` of their own."""
        others = [task for task in self.each if not task.ranks]
        prefixes = [f"{name_of(task)}_" if len(others) > 1 or task.samples.shown else "" for task in others]
        return [Measured(task, name_of(task), prefix) for task, prefix in zip(others, prefixes, strict=True)]

    # -- details -------------------------------------------------------------------------------------------------------

    @property
    def each(self) -> list[Task]:
        return list(self.tasks)  # type: ignore[arg-type]


def name_of(task: Task) -> str:
    """`event_type` of labels, else `next_item` and the like."""
    return str(getattr(task, "field", None) or re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(task).__name__).lower())
