"""Intervals and paired tests against scipy and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from recsys_lab.study.statistics import estimate, holm, paired_test


def test_one_target_per_user_is_the_ordinary_standard_error() -> None:
    values = np.random.default_rng(0).random(50)
    found = estimate(values, np.arange(50))
    assert found.mean == pytest.approx(values.mean())
    assert found.standard_error == pytest.approx(stats.sem(values))
    low, high = stats.t.interval(0.95, 49, values.mean(), stats.sem(values))
    assert found.half_width() == pytest.approx((high - low) / 2)


def test_repeating_each_target_adds_no_certainty() -> None:
    values = np.random.default_rng(0).random(50)
    user = np.arange(50)
    once, thrice = estimate(values, user), estimate(np.repeat(values, 3), np.repeat(user, 3))
    assert thrice.standard_error == pytest.approx(once.standard_error)
    assert thrice.users == 50


def test_unequal_users_by_hand() -> None:
    # users: (1, 0), (1,) -> mean 2/3; residuals 1 - 4/3 = -1/3 and 1 - 2/3 = 1/3; variance 2 * (2/9) / 9
    found = estimate(np.array([1.0, 0.0, 1.0]), np.array([7, 7, 3]))
    assert found.mean == pytest.approx(2 / 3)
    assert found.standard_error == pytest.approx(np.sqrt(4 / 81))


def test_paired_test_is_scipys() -> None:
    rng = np.random.default_rng(1)
    a = rng.random(80)
    b = a + rng.normal(0.05, 0.1, 80)
    found, expected = paired_test(a, b, np.arange(80)), stats.ttest_rel(a, b)
    assert found.p_value == pytest.approx(expected.pvalue)
    assert found.difference == pytest.approx((a - b).mean())
    assert found.effect_size == pytest.approx((a - b).mean() / (a - b).std(ddof=1))


def test_equal_systems_are_not_different() -> None:
    values = np.random.default_rng(2).random(20)
    found = paired_test(values, values, np.arange(20))
    assert (found.difference, found.p_value, found.effect_size) == (0.0, 1.0, 0.0)


def test_a_single_user_has_no_interval() -> None:
    assert np.isnan(estimate(np.array([0.5, 1.0]), np.array([1, 1])).half_width())


def test_holm_by_hand() -> None:
    # sorted .01 .02 .03: times 3, 2, 1 -> .03, .04, max(.04, .03)
    assert holm([0.03, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
    assert holm([0.9, 0.8]) == pytest.approx([1.0, 1.0])
    corrected = holm([0.01, float("nan"), 0.04])
    assert corrected[0] == pytest.approx(0.02) and np.isnan(corrected[1]) and corrected[2] == pytest.approx(0.04)


def test_false_alarms_at_the_promised_rate() -> None:
    rng = np.random.default_rng(3)
    p_values = [paired_test(rng.random(40), rng.random(40), np.arange(40)).p_value for _ in range(1000)]
    assert 0.03 < np.mean(np.array(p_values) < 0.05) < 0.07
