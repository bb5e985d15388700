"""The evaluation callbacks of a Trainer, as a run folder asks them: one that ranks, one for other tasks, or both."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import polars as pl

if TYPE_CHECKING:
    from recsys_lab.contracts import Measured  # and torch, which a comparison has no need of

COUNTED = {"ranks.parquet": "ranked_targets", "outcomes.parquet": "predicted_units"}
"""Files of a test, and what the manifest calls the number of their rows."""
VALUES = "values.parquet"
OF_SHOWN = ("shown", "shown_hash")
"""Settings that no ranking depends on."""
ALSO = "also"
"""In the manifest's `evaluation`: what a run that ranks was measured on beside that, each of its tasks. Runs of before
have one, without a list."""


def find_evaluations(trainer: Any) -> list[Any]:
    """Callbacks with `last`, `last_metrics` and `tables(datamodule)`."""
    return [one for one in trainer.callbacks if hasattr(one, "tables") and hasattr(one, "last_metrics")]


def tables_of(evaluations: Iterable[Any], datamodule: Any) -> dict[str, pl.DataFrame]:
    """Name of a file -> its table; the values of several are one table."""
    from recsys_lab.evaluation.unit_values import joined_values

    found: dict[str, pl.DataFrame] = {}
    for evaluation in evaluations:
        for name, table in evaluation.tables(datamodule).items():
            found[name] = joined_values([found[name], table]) if name == VALUES and name in found else table
    return found


def with_task_facts(settings: dict[str, Any], model: Any) -> dict[str, Any]:
    """Entries of the manifest's `evaluation`: `settings`, and those about a task that does not rank. Of several tasks
    `also` has them for each that does not, with what says which lists were shown."""
    measured: list[Measured] = getattr(getattr(model, "task", None), "measured", [])
    if not measured:
        return settings
    shown = {name: settings[name] for name in OF_SHOWN if name in settings}
    entries = [
        {"task": task.name, "task_settings": task.compared(), "metrics": list(task.shown_metrics)}
        | ({"name": name, "prefix": prefix} if name else {})
        | (shown if name and task.samples.shown else {})
        for task, name, prefix in measured
    ]
    if not model.task.ranks:
        return settings | entries[0]
    return {name: value for name, value in settings.items() if name not in OF_SHOWN} | {ALSO: entries}
