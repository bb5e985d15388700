"""Paired tests between the rows of a comparison: which pairs, which test, one correction over all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
from scipy import special

from recsys_lab.study.resampling import (
    Interval,
    bootstrap_means,
    flipped_means,
    interval_of_draws,
    left_out_influence,
    two_sided_p,
    user_sums,
)
from recsys_lab.study.statistics import holm, smallest_detectable

Weights = list[tuple[int, float]]
"""Systems and their weights."""
ROUNDING = 1e-12
"""A standard error below this share of the difference is rounding: all users differ by the same."""
Test = Literal["t", "bootstrap", "sign_flip"]


@dataclass(frozen=True)
class Method:
    """How a comparison is made.

    test: paired over users: `t`, `bootstrap` (shifted to no difference) or `sign_flip` (randomisation).
    interval: over users: `bca` or `percentile` bootstrap, or `t`.
    resamples: of the bootstrap and of the sign flips; None = 2,000, and 10,000 where a test is made of them.
    alpha: of the tests after correction; intervals have the level 1 - alpha.
    """

    test: Test = "t"
    interval: Interval = "bca"
    resamples: int | None = None
    alpha: float = 0.05
    seed: int = 0

    @property
    def draws(self) -> int:
        return self.resamples if self.resamples is not None else 2_000 if self.test == "t" else 10_000


@dataclass(slots=True)
class Pair:
    """Row `a` minus row `b` in one metric."""

    a: int
    b: int
    metric: str
    difference: float
    low: float
    high: float
    p_value: float  # two-sided, not corrected
    effect_size: float  # Cohen's d over users
    standard_error: float
    users: int
    p_corrected: float = float("nan")
    smallest_detectable: float = float("nan")


class Sample:
    """R systems x M metrics on the same targets, made ready for many pairs.

    A mean over targets, its linearised standard error, its jackknife and its bootstrap draws are all linear in the
    users' sums. So those of each system are made once, and those of a pair are their difference.

    Args:
        values: (R, M, N) per target.
        user: (N,) any integer code.
    """

    def __init__(self, values: np.ndarray, user: np.ndarray, metrics: Sequence[str], method: Method) -> None:
        self.metrics, self.method = list(metrics), method
        self.shape = values.shape[:2]
        sums, self.counts = user_sums(values.reshape(-1, values.shape[2]).T, user)  # (U, R M), (U,)
        self.means = (sums.sum(axis=0) / self.counts.sum()).reshape(self.shape)
        wants_bootstrap = method.interval != "t" or method.test == "bootstrap"
        self.drawn = self._draw(bootstrap_means, sums) if wants_bootstrap and len(self.counts) > 1 else None
        self.flipped = self._draw(flipped_means, sums) if method.test == "sign_flip" else None
        # (R, M, U): of the jackknife; equal numbers of targets give the residuals, but for the scale
        is_uneven = method.interval != "t" and self.counts.min() < self.counts.max()
        influence = self._by_system(left_out_influence(sums, self.counts)) if is_uneven else None
        sums -= self.means.reshape(-1) * self.counts[:, None]
        self.residuals = self._by_system(sums)  # (R, M, U): the user's sum less what the mean would give it
        self.influence = self.residuals if influence is None else influence

    def _draw(self, how: Callable[..., np.ndarray], sums: np.ndarray) -> np.ndarray:
        """(R, M, B)"""
        return self._by_system(how(sums, self.counts, self.method.draws, self.method.seed))

    def _by_system(self, columns: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(columns.T).reshape(*self.shape, -1)

    def interval(self, row: int) -> np.ndarray:
        """(M, 2) low and high of the row's means."""
        return self._ends(self.means[row], self.residuals[row], [(row, 1.0)])

    def pairs(self, a: int, b: int) -> list[Pair]:
        """a - b in every metric; p not corrected."""
        return self.contrast([a], [b])

    def contrast(self, plus: Sequence[int], minus: Sequence[int]) -> list[Pair]:
        """The mean of the systems `plus` less that of `minus`, in every metric; p not corrected. `a` and `b` of the
        pairs are the first of each."""
        weights = [(row, 1 / len(plus)) for row in plus] + [(row, -1 / len(minus)) for row in minus]
        differences, residuals = weighted(self.means, weights), weighted(self.residuals, weights)
        errors = self._errors(residuals)
        users, is_known = len(self.counts), errors > ROUNDING * np.abs(differences)
        t = np.divide(differences, errors, out=np.full_like(errors, np.nan), where=is_known)
        t[(differences == 0) & ~is_known] = 0.0
        p_values = np.where(t == 0, 1.0, 2 * special.stdtr(users - 1, -np.abs(t)))
        if self.method.test == "bootstrap" and self.drawn is not None:
            p_values = two_sided_p(weighted(self.drawn, weights).T - differences, differences)
        elif self.flipped is not None:
            p_values = two_sided_p(weighted(self.flipped, weights).T, differences)
        ends = self._ends(differences, residuals, weights)
        table = np.column_stack([differences, ends, p_values, t / users**0.5, errors]).tolist()
        return [
            Pair(plus[0], minus[0], name, difference, low, high, p, effect, error, users)
            for name, (difference, low, high, p, effect, error) in zip(self.metrics, table, strict=True)
        ]

    def _errors(self, residuals: np.ndarray) -> np.ndarray:
        """residuals (M, U) -> (M,) standard errors over users; nan for a single one."""
        users = len(self.counts)
        if users < 2:
            return np.full(len(residuals), np.nan)
        squares = np.einsum("mu,mu->m", residuals, residuals)
        return np.sqrt(users / (users - 1) * squares) / self.counts.sum()

    def _ends(self, means: np.ndarray, residuals: np.ndarray, weights: Weights) -> np.ndarray:
        """(M, 2) low and high of weighted means."""
        level = 1 - self.method.alpha
        if self.method.interval == "t" or self.drawn is None:
            half = special.stdtrit(max(1, len(self.counts) - 1), 0.5 + level / 2) * self._errors(residuals)
            return np.stack([means - half, means + half], axis=1)
        influence = residuals if self.influence is self.residuals else weighted(self.influence, weights)
        return interval_of_draws(weighted(self.drawn, weights), means, influence, self.method.interval, level)


def weighted(values: np.ndarray, weights: Weights) -> np.ndarray:
    """values (R, ...) -> (...): the weighted sum of some rows."""
    if len(weights) == 2 and weights[0][1] == 1 and weights[1][1] == -1:  # a pair: exact where both are equal
        return values[weights[0][0]] - values[weights[1][0]]
    total = values[weights[0][0]] * weights[0][1]
    for row, weight in weights[1:]:
        total += values[row] * weight
    return total


def which_pairs(rows: int, baseline: int | None = None, automatic: Sequence[int] = ()) -> list[tuple[int, int]]:
    """Every row minus the baseline, or, without one, every row minus every better one (rows are sorted, best first).

    Of the `automatic` rows, that nobody asked for, the best only, minus each of the others: were they all tested with
    all, the correction for so many tests would hide what was asked. The best was picked on the same data, which favours
    it, and so not what is compared with it.
    """
    asked = [row for row in range(rows) if row not in automatic]
    if baseline is None:
        pairs = [(b, a) for a, b in combinations(asked, 2)]
    else:
        pairs = [(row, baseline) for row in asked if row != baseline]
    if not automatic or baseline in automatic:
        return pairs
    return pairs + [(min(automatic), row) for row in asked]


def correct(pairs: list[Pair], alpha: float) -> None:
    """Holm over all pairs and metrics; the smallest detectable difference is that at Holm's strictest step."""
    for pair, p in zip(pairs, holm([pair.p_value for pair in pairs]), strict=True):
        pair.p_corrected = p
        pair.smallest_detectable = smallest_detectable(pair.standard_error, pair.users, alpha / len(pairs))
