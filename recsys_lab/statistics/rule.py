"""The one rule for "a difference is significant", and the estimates that it is made of. numpy and scipy only.

A system is what training with another seed would give again; a difference of two systems is asked of new users and of
new seeds. So its variance has independent parts:

* over users, of the seed-averaged paired difference: several targets of one user are not independent, so it is that of
  a ratio of sums over users (Taylor linearisation);
* over seeds, nested in each system that has seeds: s^2 / S of its means. An untrained baseline has no seeds and no
  such part.

The difference over the square root of their sum is compared with a t distribution. Its degrees of freedom are those of
Welch (1947) and Satterthwaite (1946), capped at the seeds' own: the sum of S - 1 over the systems that have seeds.
Without the cap the rule rejects too often where few seeds meet many users (docs/evaluation.md has the simulation).
With no seeds it is the paired t-test over users, with no variance over users Welch's test over seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy  # its parts are imported when they are asked for: `compare --help` needs none

LEAST_USERS = 20
"""Below it a t interval over users is not to be relied on: most values of a ranking metric are 0."""
POWER = 0.8


@dataclass(frozen=True)
class Estimate:
    """A mean over targets, with its standard error over users."""

    mean: float
    standard_error: float
    users: int

    def half_width(self, level: float = 0.95) -> float:
        """Half of the interval over users: t quantile times standard error; nan for a single user."""
        if self.users < 2:
            return float("nan")
        return float(scipy.special.stdtrit(self.users - 1, 0.5 + level / 2)) * self.standard_error


def estimate(values: np.ndarray, user: np.ndarray, weight: np.ndarray | None = None) -> Estimate:
    """values (N,) of units, user (N,) any integer code, weight (N,) of the units, None = 1 each -> mean over units and
    its standard error over users."""
    _, code = np.unique(user, return_inverse=True)
    total = len(values) if weight is None else float(weight.sum())
    mean = float(values.mean()) if weight is None else float((values * weight).sum()) / total
    sums = np.bincount(code, weights=values if weight is None else values * weight)
    counts = np.bincount(code, weights=weight)
    variance = users_variance((sums - mean * counts)[None], total)
    return Estimate(mean, float(np.sqrt(variance[0])), len(counts))


def users_variance(residuals: np.ndarray, targets: float) -> np.ndarray:
    """residuals (..., U): of each user, its sum less what the mean would give it -> (...) variance of the mean over
    units of the total weight `targets`; nan for a single user."""
    users = residuals.shape[-1]
    if users < 2:
        return np.full(residuals.shape[:-1], np.nan)
    squares = np.einsum("...u,...u->...", residuals, residuals)
    variance: np.ndarray = users / (users - 1) * squares / targets**2
    return variance


def degrees_of_freedom(
    over_users: np.ndarray, users: int, over_seeds: Sequence[np.ndarray], seeds: Sequence[int]
) -> np.ndarray:
    """Of the sum of the variances: Welch-Satterthwaite, capped at the seeds' own.

    Args:
        over_users: (...) variance of the seed-averaged paired difference.
        over_seeds: for each system that has seeds, (...) variance of its mean over seeds, s^2 / S (of a contrast: times
            its squared weight).
        seeds: S >= 2 of each of these.

    Returns:
        (...)
    """
    total = over_users + sum(over_seeds)
    parts = over_users**2 / (users - 1) + sum(v**2 / (s - 1) for v, s in zip(over_seeds, seeds, strict=True))
    df = np.divide(total**2, parts, out=np.full_like(total, float(users - 1)), where=parts > 0)
    return np.minimum(df, sum(s - 1 for s in seeds)) if seeds else df


def two_sided_p(t: np.ndarray, df: np.ndarray) -> np.ndarray:
    """t, df (...) -> (...) p of a t distribution, both tails."""
    p: np.ndarray = 2 * scipy.special.stdtr(df, -np.abs(t))
    return p


def minimum_detectable(standard_error: np.ndarray, df: np.ndarray, alpha: float, power: float = POWER) -> np.ndarray:
    """The true difference that the rule finds at `alpha` with probability `power`: the noncentrality of t at which that
    holds, times the standard error. (...) each."""
    critical = scipy.special.stdtrit(df, 1 - alpha / 2)
    away = scipy.special.nctdtrinc(df, 1 - power, critical)
    sum_of_quantiles = critical + scipy.special.stdtrit(df, power)  # Bloom 1995, where the former has no value
    size: np.ndarray = np.where(np.isfinite(away) & (away > 0), away, sum_of_quantiles) * standard_error
    return size


def holm_factors(p_values: list[float]) -> list[float]:
    """What Holm's step-down correction (1979) multiplies each p value by (the product may be above 1); nan stays nan
    and is not counted."""
    factors = [float("nan")] * len(p_values)
    known = sorted((p, i) for i, p in enumerate(p_values) if not np.isnan(p))
    largest = 0.0
    for rank, (p, i) in enumerate(known):
        largest = max(largest, (len(known) - rank) * p)
        factors[i] = largest / p if p > 0 else float(len(known) - rank)
    return factors
