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
from recsys_lab.evaluation.unit_values import unit_values
from recsys_lab.ops.processes import gather_columns
from recsys_lab.words import QUERY, RecsysLabError


class OutcomeEvaluation(L.Callback):
    """Logs `val/<metric>` and `test/<metric>`; keeps the outcome of the last evaluation. Takes no arguments: what there
    is to choose belongs to the task."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[dict[str, Tensor]] = []
        self.last: dict[str, np.ndarray] | None = None
        """Of the last evaluation, of all processes, by unit."""
        self.last_of_units: dict[str, UnitMetric] = {}
        self.last_metrics: dict[str, float] = {}
        self.last_stage = ""

    # -- collecting ----------------------------------------------------------------------------------------------------

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._parts = []

    def on_test_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._parts = []

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
        own = {name: column.detach().cpu() for name, column in outcome.items() if name != QUERY}
        if own:  # else a batch that is ranked
            self._parts.append(own)

    # -- finishing -----------------------------------------------------------------------------------------------------

    def _finish(self, trainer: L.Trainer, pl_module: Any, stage: str) -> None:
        parts, self._parts = self._parts, []
        names = parts[0] if parts else ()
        found = gather_columns({name: torch.cat([part[name] for part in parts]) for name in names})
        self.last_stage, self.last_metrics, self.last_of_units = stage, {}, {}
        if not found:
            return
        order = np.argsort(found["unit"], kind="stable")
        self.last = {name: column[order] for name, column in found.items()}
        task: Task = pl_module.task
        self.last_of_units = task.metrics(self.last)
        metrics = {name: mean_of(of) for name, of in self.last_of_units.items()} | task.facts(self.last)
        self.last_metrics = {f"{stage}/{name}": value for name, value in metrics.items()}
        if not trainer.sanity_checking:
            for name, value in self.last_metrics.items():
                bar = name in (f"{stage}/{shown}" for shown in task.shown_metrics[:1])
                pl_module.log(name, value, prog_bar=bar, rank_zero_only=False)

    def tables(self, datamodule: Any) -> dict[str, pl.DataFrame]:
        """The files of a run folder: `outcomes.parquet`, a row for each unit with the data's own user, and
        `values.parquet`, what statistics read."""
        if self.last is None:
            raise RecsysLabError("no evaluation has run yet: call trainer.test or trainer.validate first")
        user = self.last["user"]
        columns = {name: column for name, column in self.last.items() if name != "user"}
        frame = pl.DataFrame({"user_id": datamodule.processed.user_ids.gather(user), **columns})
        whole = {name.removeprefix(f"{self.last_stage}/"): value for name, value in self.last_metrics.items()}
        values = unit_values(user, self.last["unit"], self.last_of_units, whole)
        return {"outcomes.parquet": frame, "values.parquet": values}


def mean_of(metric: UnitMetric) -> float:
    """The metric itself; NaN where every unit is left out."""
    value, weight = metric
    if weight is None:
        return float(value.mean()) if len(value) else float("nan")
    total = float(weight.sum())
    return float((value * weight).sum()) / total if total > 0 else float("nan")
