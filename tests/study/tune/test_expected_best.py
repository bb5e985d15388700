"""The expected best after n trials against every draw there is, counted one by one."""

from __future__ import annotations

from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_lab.study.tune.expected import best_so_far, expected_best, expected_best_over_seconds

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
    assert expected_best_over_seconds([None], [3.0]) == []


@settings(deadline=None, max_examples=30)
@given(st.data())
def test_over_seconds_it_is_the_mean_over_all_orders(data: st.DataObject) -> None:
    values = data.draw(st.lists(st.integers(0, 20).map(float), min_size=1, max_size=5))
    seconds = data.draw(st.lists(st.integers(1, 9).map(float), min_size=len(values), max_size=len(values)))
    points = expected_best_over_seconds(values, seconds, level=0.8, count=9)
    assert points[0].budget == max(seconds) and points[-1].budget == sum(seconds)
    assert points[-1].low == points[-1].high == max(values)
    for point in points:
        found = []
        for order in permutations(range(len(values))):
            ends = np.cumsum([seconds[i] for i in order])
            found.append(max(values[i] for i, end in zip(order, ends, strict=True) if end <= point.budget + 1e-9))
        assert point.expected == pytest.approx(np.mean(found))
        assert (point.low, point.high) == (quantile(found, 0.1), quantile(found, 0.9))


def test_random_orders_are_near_the_exact_mean() -> None:
    """Trials of one second each: after n seconds, n trials."""
    values = np.random.default_rng(1).normal(size=12).tolist()
    exact = expected_best(values)
    sampled = expected_best_over_seconds(values, [1.0] * 12, count=12, orders=4000)
    assert [point.budget for point in sampled] == [point.budget for point in exact]
    error = np.std(values) / np.sqrt(4000)
    assert all(abs(a.expected - b.expected) < 5 * error for a, b in zip(sampled, exact, strict=True))


def test_what_was_seen_so_far() -> None:
    assert best_so_far([None, 0.2, 0.1, None, 0.3]) == [None, 0.2, 0.2, 0.2, 0.3]
    assert best_so_far([0.2, 0.3, 0.1], "min") == [0.2, 0.2, 0.1]
