"""The evaluation callbacks of a Trainer, as a run folder asks them: one that ranks, one for other tasks, or both."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import polars as pl

COUNTED = {"ranks.parquet": "ranked_targets", "outcomes.parquet": "predicted_units"}
"""Files of a test, and what the manifest calls the number of their rows."""
VALUES = "values.parquet"
OF_SHOWN = ("shown", "shown_hash")
"""Settings that no ranking depends on."""
ALSO = "also"
"""In the manifest's `evaluation`: what a run that ranks was measured on beside that."""


def find_evaluations(trainer: Any) -> list[Any]:
    """Callbacks with `last`, `last_metrics` and `tables(datamodule)`."""
    return [one for one in trainer.callbacks if hasattr(one, "tables") and hasattr(one, "last_metrics")]


def tables_of(evaluations: Iterable[Any], datamodule: Any) -> dict[str, pl.DataFrame]:
    """Name of a file -> its table; the values of several are one table."""
    found: dict[str, pl.DataFrame] = {}
    for evaluation in evaluations:
        for name, table in evaluation.tables(datamodule).items():
            if name == VALUES and name in found:
                both = [frame.with_columns(pl.col("metric").cast(pl.String)) for frame in (found[name], table)]
                table = pl.concat(both).with_columns(pl.col("metric").cast(pl.Categorical))
            found[name] = table
    return found


def with_task_facts(settings: dict[str, Any], model: Any) -> dict[str, Any]:
    """Entries of the manifest's `evaluation`: `settings`, and those about a task that does not rank; of one that also
    ranks they are in `also`, with what says which lists were shown."""
    task = getattr(model, "task", None)
    if task is None or not task.shown_metrics:
        return settings
    found = {"task": task.name, "task_settings": task.compared(), "metrics": list(task.shown_metrics)}
    if not task.ranks:
        return settings | found
    if prefix := getattr(task, "prefix", ""):
        found |= {"metrics": [name.removeprefix(prefix) for name in task.shown_metrics], "prefix": prefix}
    found |= {name: settings[name] for name in OF_SHOWN if name in settings}
    return {name: value for name, value in settings.items() if name not in OF_SHOWN} | {ALSO: found}
