"""Intervals and paired tests on per-target values, with users as the units of sampling. numpy and scipy only.

Several targets of one user are not independent, so every standard error is that of a ratio of sums over users
(Taylor linearisation). With one target per user it is the ordinary standard error, and the test the paired t-test.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Estimate:
    """A mean over targets, with its standard error over users."""

    mean: float
    standard_error: float
    users: int

    def half_width(self, level: float = 0.95) -> float:
        """Half of the interval: t quantile times standard error; nan for a single user."""
        if self.users < 2:
            return float("nan")
        return float(stats.t.ppf(0.5 + level / 2, self.users - 1)) * self.standard_error


def estimate(values: np.ndarray, user: np.ndarray) -> Estimate:
    """values (N,) per target, user (N,) any integer code -> mean over targets and its standard error over users."""
    _, code = np.unique(user, return_inverse=True)
    sums, counts = np.bincount(code, weights=values), np.bincount(code)
    users, mean = len(counts), float(values.mean())
    if users < 2:
        return Estimate(mean, float("nan"), users)
    residual = sums - mean * counts
    variance = users / (users - 1) * float(residual @ residual) / len(values) ** 2
    return Estimate(mean, float(np.sqrt(variance)), users)


@dataclass(frozen=True)
class PairedTest:
    """Two systems on the same targets."""

    difference: float  # mean of a - b
    half_width: float  # of its 95 % interval
    p_value: float  # two-sided, not corrected
    effect_size: float  # Cohen's d of the differences: mean over standard deviation over users
    standard_error: float = float("nan")
    users: int = 0


def paired_test(a: np.ndarray, b: np.ndarray, user: np.ndarray) -> PairedTest:
    """Paired t-test of a - b, (N,) each, over users. Not Wilcoxon: see Ihemelandu & Ekstrand 2023."""
    found = estimate(a - b, user)
    if found.users < 2 or found.standard_error == 0.0:
        p_value, effect = (1.0, 0.0) if found.mean == 0.0 else (float("nan"), float("nan"))
        return PairedTest(found.mean, found.half_width(), p_value, effect, found.standard_error, found.users)
    t = found.mean / found.standard_error
    p_value = float(2 * stats.t.sf(abs(t), found.users - 1))
    effect = t / float(np.sqrt(found.users))
    return PairedTest(found.mean, found.half_width(), p_value, effect, found.standard_error, found.users)


def smallest_detectable(standard_error: float, users: int, alpha: float = 0.05, power: float = 0.8) -> float:
    """The true difference that a two-sided paired t-test at `alpha` finds with probability `power`, given the standard
    error of the difference: (t quantile of 1 - alpha / 2 + t quantile of power) times it (Bloom 1995)."""
    return _detectable_errors(users, alpha, power) * standard_error


@cache
def _detectable_errors(users: int, alpha: float, power: float) -> float:
    if users < 2:
        return float("nan")
    return float(stats.t.ppf(1 - alpha / 2, users - 1) + stats.t.ppf(power, users - 1))


def holm(p_values: list[float]) -> list[float]:
    """Holm's step-down correction (1979); nan stays nan and is not counted."""
    corrected = [float("nan")] * len(p_values)
    known = sorted((p, i) for i, p in enumerate(p_values) if not np.isnan(p))
    largest = 0.0
    for rank, (p, i) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - rank) * p))
        corrected[i] = largest
    return corrected
