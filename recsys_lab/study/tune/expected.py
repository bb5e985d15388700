"""How good the best setting is expected to be after some of the budget: the winner often depends on how much.

Dodge et al. 2019, "Show Your Work: Improved Reporting of Experimental Results" (EMNLP), who draw the n trials with
replacement. Here they are drawn without: unbiased, and exact at n = N (Tang et al. 2020, "Showing Your Work Doesn't
Always Work", ACL).

Both mean a search whose trials come in no order. With `sampler: random` that is so (but for trial 0, the default); a
search that learns (TPE) finds good settings later than in a random order of its trials, so for it the curve says what
the found values are worth, and `best_so_far` what was seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np

FEW = 7
"""Trials whose orders are all gone through: 5040."""


@dataclass(frozen=True)
class Point:
    """After `budget` (trials, or seconds) the best value is `expected` in the mean over orders of the trials; in the
    middle `level` of the orders it lies in [low, high]. The range is that of luck in the order, no confidence interval
    for other trials; it closes at the whole budget."""

    budget: float
    expected: float
    low: float
    high: float


def expected_best(values: Sequence[float | None], mode: str = "max", level: float = 0.9) -> list[Point]:
    """The expected best of n trials drawn without replacement from N, for n = 1..N.

    With x_1 <= ... <= x_N (for `max`): P(best of n <= x_i) = C(i, n) / C(N, n), so that
    E[best of n] = sum_i x_i C(i - 1, n - 1) / C(N, n).

    Args:
        values: of all trials, (N,); None (a failed trial) counts as the worst of the others.
        mode: max or min, what is better.
        level: share of the orders in [low, high].

    Returns:
        N points; none when no trial has a value.
    """
    ascending = np.sort(_filled(values, mode))
    points = []
    for n in range(1, len(ascending) + 1):
        weights = _weights(len(ascending), n)
        points.append(_point(n, ascending, weights, mode, level))
    return points


def expected_best_over_seconds(
    values: Sequence[float | None],
    seconds: Sequence[float],
    mode: str = "max",
    level: float = 0.9,
    count: int = 60,
    orders: int = 2000,
    seed: int = 0,
) -> list[Point]:
    """The same over seconds of trials that run one after the other: the best of those that have ended.

    Over all orders of the trials where they are few, else over random ones. It begins at the longest trial's seconds:
    before that some orders have nothing yet.

    Args:
        values: as above, (N,).
        seconds: of each trial, (N,).
        count: of points, evenly from the longest trial to all of them.
        orders: random orders, where there are more than 5040.
    """
    filled = _filled(values, mode)
    if not len(filled):
        return []
    lasted = np.asarray(seconds, dtype=float)
    if len(filled) <= FEW:
        drawn = np.array(list(permutations(range(len(filled)))))
    else:
        random = np.random.default_rng(seed)
        drawn = np.argsort(random.random((orders, len(filled))), axis=1)  # (orders, N)
    ended = np.cumsum(lasted[drawn], axis=1)
    best = np.maximum.accumulate(filled[drawn], axis=1)
    rounding = 1e-9 * lasted.sum()
    points = []
    for budget in np.unique(np.linspace(lasted.max(), lasted.sum(), count)):
        last = np.maximum((ended <= budget + rounding).sum(axis=1) - 1, 0)
        found = np.sort(best[np.arange(len(best)), last])
        points.append(_point(float(budget), found, np.full(len(found), 1 / len(found)), mode, level))
    return points


def best_so_far(values: Sequence[float | None], mode: str = "max") -> list[float | None]:
    """In the order in which the trials were begun: None until the first that has a value."""
    found: list[float | None] = []
    better = max if mode == "max" else min
    best: float | None = None
    for value in values:
        best = value if best is None else best if value is None else better(best, value)
        found.append(best)
    return found


def _filled(values: Sequence[float | None], mode: str) -> np.ndarray:
    """More is better; a failed trial is as bad as the worst."""
    known = [value for value in values if value is not None]
    if not known:
        return np.array([])
    worst = min(known) if mode == "max" else max(known)
    filled = np.array([worst if value is None else value for value in values], dtype=float)
    return filled if mode == "max" else -filled


def _weights(total: int, n: int) -> np.ndarray:
    """P(the i-th smallest of `total` is the best of n) = C(i - 1, n - 1) / C(total, n), i = 1..total."""
    weights = np.zeros(total)
    weights[-1] = n / total
    for i in range(total, n, -1):
        weights[i - 2] = weights[i - 1] * (i - n) / (i - 1)
    return weights


def _point(budget: float, ascending: np.ndarray, weights: np.ndarray, mode: str, level: float) -> Point:
    until = np.cumsum(weights)
    tails = (1 - level) / 2, (1 + level) / 2
    at = [min(int(np.searchsorted(until, tail - 1e-12)), len(ascending) - 1) for tail in tails]
    low, high, expected = float(ascending[at[0]]), float(ascending[at[1]]), float(ascending @ weights)
    return Point(budget, expected, low, high) if mode == "max" else Point(budget, -expected, -high, -low)
