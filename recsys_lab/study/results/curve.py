"""Learning curves: the validation metric of each epoch, from metrics.csv."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


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
