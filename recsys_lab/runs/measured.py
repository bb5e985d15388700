"""MeasuredRun: a finished run whose task is no ranking; its units stand in outcomes.parquet, its values in
values.parquet."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from hashlib import sha256
from typing import Any

import numpy as np
import polars as pl

from recsys_lab.ops.query_metrics import QUERY_METRICS
from recsys_lab.runs.evaluations import ALSO, COUNTED
from recsys_lab.runs.finished import Run
from recsys_lab.words import RecsysLabError, did_you_mean, number_of

OUTCOMES = "outcomes.parquet"


class MeasuredRun(Run):
    """What comparisons ask of a run, where the metrics are of outcomes and have no cutoff."""

    has_cutoff = False

    @cached_property
    def ranks(self) -> pl.DataFrame:
        """One row for each unit, by unit: `user_id`, `unit`, what was predicted and what came."""
        table = pl.read_parquet(self.folder / OUTCOMES)
        name = self.evaluation.get("name")
        if name is None or "task" not in table.columns:  # one task alone
            return table
        own = [column for column in table.columns if column.startswith(f"{name}/")]
        columns = [pl.col(column).alias(column.removeprefix(f"{name}/")) for column in own]
        return table.filter(pl.col("task") == name).select("user_id", "unit", *columns)

    @property
    def all_ranks(self) -> pl.DataFrame:
        return self.ranks

    @cached_property
    def units(self) -> pl.DataFrame:
        return self.ranks

    @property
    def metric_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """Those that tables show; the first decides."""
        return tuple(self.evaluation.get("metrics") or ())

    def values(self, metric: str, cutoff: int = 0) -> np.ndarray:
        """(N,) a value for each unit, all of weight 1, whose mean is the metric and whose variance over users is that
        of the metric (see `of_weight_one`).

        Raises:
            RecsysLabError: for a metric that the run has not.
        """
        stored = f"{self.evaluation.get('prefix', '')}{metric}"
        is_meant = (pl.col("metric").cast(pl.String) == stored) & pl.col("unit").is_not_null()
        found = pl.scan_parquet(self.folder / "values.parquet").filter(is_meant).select("value", "weight").collect()
        if not found.height:
            known = self.metric_names
            raise RecsysLabError(
                f"{self.folder} has no metric {metric!r}; known: {', '.join(known)}.{did_you_mean(metric, known)}"
            )
        return of_weight_one(found["value"].to_numpy(), found["weight"].cast(pl.Float64).to_numpy())

    @cached_property
    def targets_hash(self) -> str:
        """Of the units and what came of each."""
        digest = sha256()
        for name in ("unit", "label"):
            if name in self.ranks.columns:
                digest.update(np.ascontiguousarray(self.ranks[name].to_numpy()).tobytes())
        return digest.hexdigest()[:16]

    def share(self, other: Run) -> None:
        """Nothing: comparisons hold the users' values, not the tables."""

    def wrong(self) -> str:
        """What can't be right in its files; empty where nothing is found."""
        if not self.has_values:
            return "has no values.parquet beside it"
        expected = self.manifest.get("predicted_units")
        if self.ranks.height != expected:
            return f"holds {number_of(self.ranks.height, 'row')}, and manifest.json counts {expected}"
        return "" if self.ranks.height else "holds no row"


def measured_parts(run: Run) -> list[Run]:
    """`Run.measured` of a run whose folder is here."""
    found: list[Run] = []
    if (run.folder / OUTCOMES).is_file():
        for evaluation in part_evaluations(run):
            metrics, prefix = run.metrics, evaluation.get("prefix", "")
            if prefix:  # what the metrics of the task alone are called
                metrics = {n.replace(f"/{prefix}", "/"): value for n, value in metrics.items() if f"/{prefix}" in n}
            manifest = {name: value for name, value in run.manifest.items() if name != COUNTED["ranks.parquet"]}
            found.append(MeasuredRun(run.folder, {**manifest, "evaluation": evaluation}, metrics))
    return found


def part_evaluations(run: Run) -> list[dict[str, Any]]:
    """The manifest's `evaluation` as a run of each further task alone would have it."""
    also = run.evaluation.get(ALSO) or []
    shared = {name: value for name, value in run.manifest["evaluation"].items() if name != ALSO}
    each = [also] if isinstance(also, dict) else also  # a run of before has one, without a name
    return [{"name": (one.get("task_settings") or {}).get("field") or "clicks", **shared, **one} for one in each]


def by_task(runs: Sequence[Run], metrics: Sequence[str] = ()) -> list[tuple[list[Run], list[str]]]:
    """The comparisons that runs of several tasks give, each with the metrics that were asked for: of those that rank,
    then of each further task, the runs of that task alone beside them. Without runs of several tasks it is one.

    Args:
        metrics: keeps the comparisons that have all of them, as a task alone calls them or as metrics.json does; or
            else some.
    """
    parts = {one.folder: one.measured for one in runs}
    if not any(parts.values()):
        return [(list(runs), list(metrics))]
    ranking = [one for one in runs if one.has_cutoff]
    groups: dict[str, list[Run]] = {}
    for run in runs:
        for one in [run] if not run.has_cutoff else parts[run.folder]:
            groups.setdefault(str([one.evaluation.get(name) for name in ("task", "task_settings")]), []).append(one)
    found = [(group, _own_names(group, metrics)) for group in [ranking, *groups.values()] if group]
    if not metrics:
        return found
    counts = [sum(_knows(group[0], name) for name in names) for group, names in found]
    most = max(counts)
    if not most:  # of one's own, if of anything
        return found[:1]
    return [one for one, count in zip(found, counts, strict=True) if count == most]


def _own_names(runs: Sequence[Run], metrics: Sequence[str]) -> list[str]:
    """`click_through_auc` -> `auc`."""
    prefixes = {prefix for run in runs if (prefix := run.evaluation.get("prefix"))}
    return [next((name.removeprefix(p) for p in prefixes if name.startswith(p)), name) for name in metrics]


def _knows(run: Run, metric: str) -> bool:
    return metric in (run.metric_names or QUERY_METRICS)


def of_weight_one(value: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """(N,) values and their weights -> (N,) whose plain mean is the weighted one and whose deviations from it, summed
    over a user, are the linearised ones of the weighted mean: so one rule serves both."""
    total = weight.sum()
    if not total > 0:
        return np.full(len(value), np.nan)
    mean = float((value * weight).sum() / total)
    found: np.ndarray = mean + len(value) / total * weight * np.where(weight > 0, value - mean, 0.0)
    return found
