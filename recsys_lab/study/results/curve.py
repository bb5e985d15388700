"""Learning curves: the validation metric of each epoch, from metrics.csv."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recsys_lab.runs.finished import Run
from recsys_lab.study.values import read_points


@dataclass(frozen=True, eq=False)
class Curve:
    """One run. epochs (E,) int from 0; seconds (E,) since the fit began, validation included; values (E,) of `metric`,
    nan in an epoch without validation."""

    row: int  # place in `Comparison.rows`
    name: str
    seed: int
    metric: str  # as in metrics.csv: val/ndcg@10
    epochs: np.ndarray
    seconds: np.ndarray
    values: np.ndarray
    best_epoch: int | None
    stopped_by: str


def read_curve(row: int, name: str, run: Run, metric: str) -> Curve | None:
    """The curve of a run; None where metrics.csv is missing or damaged, or has no column `metric`."""
    try:
        points = read_points(run, metric)
        epochs, seconds = np.array(points["epoch"]), np.cumsum(points["seconds"])
        values = np.array([np.nan if value is None else value for value in points[metric]])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not len(values) or np.isnan(values).all():
        return None
    facts = run.manifest
    seed, best = int(facts.get("seed") or 0), facts.get("best_epoch")
    return Curve(row, name, seed, metric, epochs, seconds, values, best, str(facts.get("stopped_by")))
