"""How good the best setting is expected to be after some of the budget: the winner often depends on how much.

Dodge et al. 2019, "Show Your Work: Improved Reporting of Experimental Results" (EMNLP), who draw the n trials with
replacement. Here they are drawn without: unbiased, and exact at n = N (Tang et al. 2020, "Showing Your Work Doesn't
Always Work", ACL).

This means a search whose trials come in no order. With `sampler: random` that is so (but for trial 0, the default); a
search that learns (TPE) finds good settings later than in a random order of its trials, so for it the curve says what
the found values are worth, and not how soon they were found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Point:
    """After `budget` trials the best value is `expected` in the mean over orders of the trials; in the middle `level`
    of the orders it lies in [low, high]. The range is that of luck in the order, no confidence interval for other
    trials; it closes at the whole budget."""

    budget: int
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
    sign = 1 if mode == "max" else -1
    known = [sign * value for value in values if value is not None]
    if not known:
        return []
    ascending = np.sort(known + [min(known)] * (len(values) - len(known)))
    points = []
    for n in range(1, len(values) + 1):
        chances = _chances(len(values), n)
        until = np.cumsum(chances)
        low, high = (ascending[np.searchsorted(until, tail - 1e-12)] for tail in ((1 - level) / 2, (1 + level) / 2))
        ends = sorted((sign * float(low), sign * float(high)))
        points.append(Point(n, sign * float(ascending @ chances), *ends))
    return points


def _chances(total: int, n: int) -> np.ndarray:
    """P(the i-th smallest of `total` is the best of n) = C(i - 1, n - 1) / C(total, n), i = 1..total."""
    chances = np.zeros(total)
    chances[-1] = n / total
    for i in range(total, n, -1):
        chances[i - 2] = chances[i - 1] * (i - n) / (i - 1)
    return chances
