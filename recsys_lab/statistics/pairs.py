"""Tests between the rows of a comparison: which pairs, by the one rule, one correction over all of the deciding
metric."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import scipy

from recsys_lab.statistics.resampling import Interval, bootstrap_means, interval_of_draws, left_out_influence, user_sums
from recsys_lab.statistics.rule import degrees_of_freedom, holm_factors, minimum_detectable, two_sided_p, users_variance

Weights = list[tuple[int, float]]
"""Systems and their weights."""
ROUNDING = 1e-12
"""A standard error below this share of the difference is rounding: all users and seeds differ by the same."""
ONE_SEED = "one seed"
NO_VARIANCE = "no variance"
NAN = float("nan")


@dataclass(frozen=True)
class Method:
    """How a comparison is made. That a difference is significant is said by one rule (`statistics.rule`).

    interval: of a single row, over users: `bca` or `percentile` bootstrap, or `t`. It describes the trained models.
    resamples: of the bootstrap.
    alpha: of the tests after correction; intervals have the level 1 - alpha.
    """

    interval: Interval = "bca"
    resamples: int = 2_000
    alpha: float = 0.05
    seed: int = 0

    @property
    def level(self) -> str:
        """Of the intervals, in words: `95 %`."""
        return f"{100 * (1 - self.alpha):g} %"


@dataclass(frozen=True)
class Seeds:
    """What is known of a system's seeds.

    count: S; 0 for an untrained baseline, which has none.
    variance: (M,) of its mean over seeds, s^2 / S, in each metric; 0 without seeds.
    untested: why it takes part in no test; empty otherwise.
    """

    count: int
    variance: np.ndarray
    untested: str = ""


@dataclass(slots=True, kw_only=True)
class Difference:
    """A difference in one metric, as the rule sees it.

    standard_error: over users and seeds.
    df: degrees of freedom.
    effect_size: Cohen's d over users.
    p_value: two-sided, not corrected; nan where `untested` says why there is none.
    p_corrected: Holm over all of the deciding metric; nan in other metrics.
    low, high: interval from the same standard error and degrees of freedom. In the deciding metric at the level of the
        difference's step in Holm's procedure, so that it leaves out 0 exactly when `p_corrected` is below alpha; in
        other metrics at 1 - alpha, not corrected.
    detectable: minimum detectable effect, 80 % power, at Holm's strictest step.
    """

    metric: str
    difference: float
    standard_error: float
    df: float
    users: int
    effect_size: float
    p_value: float
    untested: str = ""
    low: float = NAN
    high: float = NAN
    p_corrected: float = NAN
    detectable: float = NAN

    @property
    def spread(self) -> tuple[float, float, float]:
        """The difference with its interval, as tables take it."""
        return self.difference, self.low, self.high

    @property
    def p_or_reason(self) -> float | str:
        """The corrected p value; where there is none, why, if that is known."""
        return self.untested if self.untested and self.p_corrected != self.p_corrected else self.p_corrected

    def is_significant(self, alpha: float) -> bool:
        """Of the deciding metric only: others are not corrected, and so decide nothing."""
        return self.p_corrected < alpha

    def turned(self, **changes: Any) -> Any:
        """The same seen from the other side."""
        return replace(
            self,
            difference=-self.difference,
            low=-self.high,
            high=-self.low,
            effect_size=-self.effect_size,
            **changes,
        )


@dataclass(slots=True, kw_only=True)
class Pair(Difference):
    """Row `a` minus row `b`; of a comparison's pairs `a` is the better one in the deciding metric."""

    a: int
    b: int


class Sample:
    """R systems x M metrics on the same targets, made ready for many pairs.

    A mean over targets, its linearised residuals and its bootstrap draws are all linear in the users' sums. So those of
    each system are made once, and those of a difference are their difference.

    Args:
        values: (R, M, N) of units (targets, queries, impressions), mean over seeds.
        user: (N,) any integer code.
        seeds: of each system; None = none has any.
        weight: (N,) of the units in a mean; None = 1 each.
    """

    def __init__(
        self,
        values: np.ndarray,
        user: np.ndarray,
        metrics: Sequence[str],
        method: Method,
        seeds: Sequence[Seeds] | None = None,
        weight: np.ndarray | None = None,
    ) -> None:
        self.metrics, self.method = list(metrics), method
        self.shape = values.shape[:2]
        self.seeds = list(seeds) if seeds is not None else [Seeds(0, np.zeros(len(self.metrics)))] * len(values)
        sums, self.counts = user_sums(values.reshape(-1, values.shape[2]).T, user, weight)  # (U, R M), (U,)
        self.means = (sums.sum(axis=0) / self.counts.sum()).reshape(self.shape)
        wants_bootstrap = method.interval != "t" and len(self.counts) > 1
        self.drawn = self._draw(bootstrap_means, sums) if wants_bootstrap else None
        # (R, M, U): of the jackknife; equal numbers of targets give the residuals, but for the scale
        is_uneven = wants_bootstrap and self.counts.min() < self.counts.max()
        influence = self._by_system(left_out_influence(sums, self.counts)) if is_uneven else None
        sums -= self.means.reshape(-1) * self.counts[:, None]
        self.residuals = self._by_system(sums)  # (R, M, U): the user's sum less what the mean would give it
        self.influence = self.residuals if influence is None else influence

    def _draw(self, how: Callable[..., np.ndarray], sums: np.ndarray) -> np.ndarray:
        """(R, M, B)"""
        return self._by_system(how(sums, self.counts, self.method.resamples, self.method.seed))

    def _by_system(self, columns: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(columns.T).reshape(*self.shape, -1)

    def interval(self, row: int) -> np.ndarray:
        """(M, 2) low and high of the row's means, over users."""
        level, means = 1 - self.method.alpha, self.means[row]
        if self.drawn is None:
            errors = np.sqrt(users_variance(self.residuals[row], self.counts.sum()))
            half = scipy.special.stdtrit(max(1, len(self.counts) - 1), 0.5 + level / 2) * errors
            return np.stack([means - half, means + half], axis=1)
        return interval_of_draws(self.drawn[row], means, self.influence[row], self.method.interval, level)

    def pairs(self, a: int, b: int) -> list[Pair]:
        """a - b in every metric, not corrected yet."""
        return [Pair(a=a, b=b, **facts) for facts in self.contrast([a], [b])]

    def contrast(self, plus: Sequence[int], minus: Sequence[int]) -> list[dict[str, Any]]:
        """The mean of the systems `plus` less that of `minus`: what a `Difference` is made of, for every metric."""
        weights = [(row, 1 / len(plus)) for row in plus] + [(row, -1 / len(minus)) for row in minus]
        differences, residuals = weighted(self.means, weights), weighted(self.residuals, weights)
        users = len(self.counts)
        over_users = users_variance(residuals, self.counts.sum())
        trained = [(self.seeds[row], weight) for row, weight in weights if self.seeds[row].count > 1]
        over_seeds = [weight**2 * of.variance for of, weight in trained]
        errors = np.sqrt(over_users + sum(over_seeds))
        df = degrees_of_freedom(over_users, users, over_seeds, [of.count for of, _ in trained])
        is_known = errors > ROUNDING * np.abs(differences)
        t = np.divide(differences, errors, out=np.full_like(errors, np.nan), where=is_known)
        t[(differences == 0) & ~is_known] = 0.0
        p_values = np.where(t == 0, 1.0, two_sided_p(t, df))
        of_users = np.sqrt(over_users * users)
        effects = np.divide(differences, of_users, out=np.full_like(errors, np.nan), where=of_users > 0)
        effects[differences == 0] = 0.0
        why = self._untested([row for row, _ in weights])
        table = np.column_stack([differences, errors, df, effects, np.full_like(df, np.nan) if why else p_values])
        return [
            {
                "metric": name,
                "difference": difference,
                "standard_error": error,
                "df": degrees,
                "users": users,
                "effect_size": effect,
                "p_value": p,
                "untested": why or (NO_VARIANCE if np.isnan(p) else ""),
            }
            for name, (difference, error, degrees, effect, p) in zip(self.metrics, table.tolist(), strict=True)
        ]

    def _untested(self, rows: Sequence[int]) -> str:
        of_rows = [self.seeds[row] for row in rows]
        reasons = [of.untested or ONE_SEED for of in of_rows if of.untested or of.count == 1]
        return min(reasons, key=lambda reason: reason == ONE_SEED, default="")


def weighted(values: np.ndarray, weights: Weights) -> np.ndarray:
    """values (R, ...) -> (...): the weighted sum of some rows."""
    if len(weights) == 2 and weights[0][1] == 1 and weights[1][1] == -1:  # a pair: exact where both are equal
        return values[weights[0][0]] - values[weights[1][0]]
    total = values[weights[0][0]] * weights[0][1]
    for row, weight in weights[1:]:
        total += values[row] * weight
    return total


def which_pairs(rows: int, baseline: int | None = None, automatic: Sequence[int] = ()) -> list[tuple[int, int]]:
    """Every row with the baseline, or, without one, all rows with each other; the better one first (rows are sorted,
    best first).

    Of the `automatic` rows, that nobody asked for, the best only, with each of the others: were they all tested with
    all, the correction for so many tests would hide what was asked. The best was picked on the same data, which
    favours it, and so not what is compared with it.
    """
    asked = [row for row in range(rows) if row not in automatic]
    pairs = list(combinations(asked, 2))
    if baseline is not None:
        pairs = [(min(row, baseline), max(row, baseline)) for row in asked if row != baseline]
    if not automatic or baseline in automatic:
        return pairs
    best = min(automatic)
    return pairs + [(min(best, row), max(best, row)) for row in asked]


def correct(tested: Sequence[Difference], alpha: float, *deciding: str) -> None:
    """Fills in what depends on how many are tested: Holm over the deciding metrics, with the intervals and minimum
    detectable effects that belong to it. Other metrics get their own intervals and no corrected p."""
    known = [one for one in tested if not np.isnan(one.p_value)]
    family = [one for one in known if one.metric in deciding]
    factors = dict(zip(map(id, family), holm_factors([one.p_value for one in family]), strict=True))
    if not known:
        return
    errors, df = np.array([one.standard_error for one in known]), np.array([one.df for one in known])
    levels = alpha / np.array([factors.get(id(one), 1.0) for one in known])
    halves = scipy.special.stdtrit(df, 1 - levels / 2) * errors
    detectable = minimum_detectable(errors, df, alpha / max(1, len(family)))
    for one, half, size in zip(known, halves.tolist(), detectable.tolist(), strict=True):
        one.low, one.high, one.detectable = one.difference - half, one.difference + half, size
        if id(one) in factors:
            one.p_corrected = min(1.0, factors[id(one)] * one.p_value)
