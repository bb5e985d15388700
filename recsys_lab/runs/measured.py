"""MeasuredRun: a finished run whose task is no ranking; its units stand in outcomes.parquet, its values in
values.parquet."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from hashlib import sha256

import numpy as np
import polars as pl

from recsys_lab.ops.query_metrics import QUERY_METRICS
from recsys_lab.runs.evaluations import ALSO
from recsys_lab.runs.finished import Run
from recsys_lab.words import RecsysLabError, did_you_mean, number_of

OUTCOMES = "outcomes.parquet"


class MeasuredRun(Run):
    """What comparisons ask of a run, where the metrics are of outcomes and have no cutoff."""

    has_cutoff = False

    @cached_property
    def ranks(self) -> pl.DataFrame:
        """One row for each unit, by unit: `user_id`, `unit`, what was predicted and what came."""
        return pl.read_parquet(self.folder / OUTCOMES)

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


def as_measured(run: Run) -> Run:
    """The same run with its outcomes in place of its ranks, where it has both: a run of `MultiTask`."""
    also = run.evaluation.get(ALSO)
    if isinstance(run, MeasuredRun) or not also or not (run.folder / OUTCOMES).is_file():
        return run
    evaluation = {name: value for name, value in run.manifest["evaluation"].items() if name != ALSO}
    prefix, metrics = also.get("prefix", ""), run.metrics
    if prefix:  # what the metrics of the task alone are called
        metrics = {name.replace(f"/{prefix}", "/"): value for name, value in metrics.items() if f"/{prefix}" in name}
    return MeasuredRun(run.folder, {**run.manifest, "evaluation": {**evaluation, **also}}, metrics)


def measured_where_asked(runs: Sequence[Run], metrics: Sequence[str] = ()) -> list[Run]:
    """`as_measured` of each, where one has nothing else, or a metric is asked for that no ranking has."""
    of_outcomes = any(isinstance(run, MeasuredRun) for run in runs)
    asked = bool(metrics) and not set(metrics) & set(QUERY_METRICS)
    return [as_measured(run) for run in runs] if of_outcomes or asked else list(runs)


def of_weight_one(value: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """(N,) values and their weights -> (N,) whose plain mean is the weighted one and whose deviations from it, summed
    over a user, are the linearised ones of the weighted mean: so one rule serves both."""
    total = weight.sum()
    if not total > 0:
        return np.full(len(value), np.nan)
    mean = float((value * weight).sum() / total)
    found: np.ndarray = mean + len(value) / total * weight * np.where(weight > 0, value - mean, 0.0)
    return found
