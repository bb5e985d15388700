"""The expected best after n trials against every draw there is, counted one by one."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_lab.study.tune.expected import expected_best

VALUES = st.lists(st.integers(-50, 50).map(lambda i: i / 10), min_size=1, max_size=7)  # with ties


def quantile(found: list[float], share: float) -> float:
    """The smallest value that at least `share` of all do not exceed."""
    ordered = sorted(found)
    return next(v for i, v in enumerate(ordered, 1) if i / len(ordered) >= share - 1e-12)


@settings(deadline=None, max_examples=60)
@given(VALUES, st.sampled_from(["max", "min"]), st.sampled_from([0.5, 0.8, 0.9]))
def test_it_is_the_mean_and_the_range_over_all_subsets(values: list[float], mode: str, level: float) -> None:
    best = max if mode == "max" else min
    points = expected_best(values, mode, level)
    assert [point.budget for point in points] == list(range(1, len(values) + 1))
    for n, point in enumerate(points, 1):
        drawn = [best(subset) for subset in combinations(values, n)]
        assert point.expected == pytest.approx(np.mean(drawn))
        sign = 1 if mode == "max" else -1
        low, high = (quantile([sign * value for value in drawn], q) for q in ((1 - level) / 2, (1 + level) / 2))
        assert (point.low, point.high) == pytest.approx((low, high) if mode == "max" else (-high, -low))


def test_it_is_exact_for_many_trials() -> None:
    """N = 500 values 1..500: the expected greatest of n is n (N + 1) / (n + 1)."""
    points = expected_best([float(i) for i in range(1, 501)])
    for n in (1, 2, 10, 250, 499, 500):
        assert points[n - 1].expected == pytest.approx(n * 501 / (n + 1), rel=1e-9)
    assert (points[0].low, points[0].high) == (25, 475) and points[-1].low == points[-1].high == 500


def test_a_failed_trial_counts_as_the_worst() -> None:
    assert expected_best([0.2, None, 0.4]) == expected_best([0.2, 0.2, 0.4])
    assert expected_best([0.2, None, 0.4], "min") == expected_best([0.2, 0.4, 0.4], "min")
    assert expected_best([None, None]) == [] and expected_best([]) == []
