"""OutcomeEvaluation: the metrics of a task that is no ranking, from one row for each thing that it predicted.

A task says what its rows hold (`Task.evaluate`) and what its metrics are (`Task.metrics`). This callback brings the
rows of all processes together, in one order, so that the numbers are the same on any number of processes.
"""

from __future__ import annotations

from typing import Any

import lightning as L
import numpy as np
import polars as pl
import torch
from torch import Tensor

from recsys_lab.contracts import Task, UnitMetric
from recsys_lab.evaluation.unit_values import joined_values, unit_values
from recsys_lab.ops.processes import gather_columns
from recsys_lab.words import QUERY, RecsysLabError


class OutcomeEvaluation(L.Callback):
    """Logs `val/<metric>` and `test/<metric>`; keeps the outcome of the last evaluation. Takes no arguments: what there
    is to choose belongs to the task."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: dict[str, list[dict[str, Tensor]]] = {}
        self.last: dict[str, dict[str, np.ndarray]] | None = None
        """Of the last evaluation, of all processes, by unit: the name of each task (`Task.measured`) -> its columns."""
        self.last_of_units: dict[str, dict[str, UnitMetric]] = {}
        self._is_one = True
        self.last_metrics: dict[str, float] = {}
        self.last_stage = ""

    # -- collecting ----------------------------------------------------------------------------------------------------

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._parts = {}

    def on_test_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._parts = {}

    def on_validation_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, *_: Any) -> None:
        self.add(outputs)

    def on_test_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, *_: Any) -> None:
        self.add(outputs)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._finish(trainer, pl_module, "val")

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._finish(trainer, pl_module, "test")

    def add(self, outcome: dict[str, Tensor]) -> None:
        """One batch of this process."""
        own: dict[str, dict[str, Tensor]] = {}
        for name, column in outcome.items():
            if name != QUERY:  # that one is ranked by
                task, _, column_name = name.rpartition("/")
                own.setdefault(task, {})[column_name] = column.detach().cpu()
        for task, columns in own.items():
            self._parts.setdefault(task, []).append(columns)

    # -- finishing -----------------------------------------------------------------------------------------------------

    def _finish(self, trainer: L.Trainer, pl_module: Any, stage: str) -> None:
        parts, self._parts = self._parts, {}
        self.last_stage, self.last_metrics, self.last_of_units, last = stage, {}, {}, {}
        task: Task = pl_module.task
        self._is_one = len(task.measured) == 1
        for one in task.measured:
            own = parts.get(one.name, [])
            found = gather_columns({name: torch.cat([part[name] for part in own]) for name in (own[0] if own else ())})
            if not found:
                continue
            order = np.argsort(found["unit"], kind="stable")
            outcome = last[one.name] = {name: column[order] for name, column in found.items()}
            of_units = {f"{one.prefix}{name}": value for name, value in one.task.metrics(outcome).items()}
            facts = {f"{one.prefix}{name}": value for name, value in one.task.facts(outcome).items()}
            self.last_of_units[one.name] = of_units
            metrics = {name: mean_of(of) for name, of in of_units.items()} | facts
            self.last_metrics |= {f"{stage}/{name}": value for name, value in metrics.items()}
        if last:
            self.last = last
        if not trainer.sanity_checking:
            for name, value in self.last_metrics.items():
                bar = name in (f"{stage}/{shown}" for shown in task.shown_metrics[:1])
                pl_module.log(name, value, prog_bar=bar, rank_zero_only=False)

    def tables(self, datamodule: Any) -> dict[str, pl.DataFrame]:
        """The files of a run folder: `outcomes.parquet`, a row for each unit with the data's own user, and
        `values.parquet`, what statistics read. The outcomes of several tasks are told apart by a column `task`, and
        their columns are called `<task>/<column>`."""
        if self.last is None:
            raise RecsysLabError("no evaluation has run yet: call trainer.test or trainer.validate first")
        frames, values = list[pl.DataFrame](), list[pl.DataFrame]()
        whole = {name.removeprefix(f"{self.last_stage}/"): value for name, value in self.last_metrics.items()}
        whole = {
            name: value for name, value in whole.items() if not any(name in of for of in self.last_of_units.values())
        }
        for task, outcome in self.last.items():
            user, unit = outcome["user"], outcome["unit"]
            start = "" if self._is_one else f"{task}/"
            columns = {f"{start}{name}": column for name, column in outcome.items() if name not in ("user", "unit")}
            marked = {"task": [task] * len(unit)} if start else {}
            frames.append(
                pl.DataFrame({**marked, "user_id": datamodule.processed.user_ids.gather(user), "unit": unit, **columns})
            )
            values.append(unit_values(user, unit, self.last_of_units[task], {} if values else whole))
        return {"outcomes.parquet": pl.concat(frames, how="diagonal"), "values.parquet": joined_values(values)}


def mean_of(metric: UnitMetric) -> float:
    """The metric itself; NaN where every unit is left out."""
    value, weight = metric
    if weight is None:
        return float(value.mean()) if len(value) else float("nan")
    total = float(weight.sum())
    return float((value * weight).sum()) / total if total > 0 else float("nan")
