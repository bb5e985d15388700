"""The one rule against scipy and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from recsys_lab.statistics.pairs import NO_VARIANCE, ONE_SEED, Method, Sample, Seeds, correct
from recsys_lab.statistics.rule import degrees_of_freedom, estimate, holm_factors, minimum_detectable, two_sided_p


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


def holm(p_values: list[float]) -> list[float]:
    return [min(1.0, p * factor) if p == p else p for p, factor in zip(p_values, holm_factors(p_values), strict=True)]


def seeds_of(per_seed: np.ndarray) -> Seeds:
    """per_seed (S, N)"""
    means = per_seed.mean(axis=1)
    return Seeds(len(per_seed), np.array([means.var(ddof=1) / len(per_seed)]))


def test_without_seeds_it_is_the_paired_t_test() -> None:
    """Two untrained baselines."""
    rng = np.random.default_rng(1)
    a = rng.random(80)
    b = a + rng.normal(0.05, 0.1, 80)
    sample = Sample(np.stack([a, b])[:, None, :], np.arange(80), ["ndcg"], Method(interval="t"))
    (found,), expected = sample.pairs(0, 1), stats.ttest_rel(a, b)
    correct([found], 0.05, "ndcg")
    interval = expected.confidence_interval(0.95)
    assert (found.p_value, found.df) == (pytest.approx(expected.pvalue), 79)
    assert (found.low, found.high) == (pytest.approx(interval.low), pytest.approx(interval.high))
    assert found.difference == pytest.approx((a - b).mean())
    assert found.effect_size == pytest.approx((a - b).mean() / (a - b).std(ddof=1))


@pytest.mark.parametrize(("first", "second"), [(3, 3), (2, 5), (4, 4)])
def test_without_variance_over_users_it_is_welchs_test_over_seeds(first: int, second: int) -> None:
    """Every user has the mean of the run: all that is left to chance is the seeds."""
    rng = np.random.default_rng(first)
    a, b = rng.normal(0.5, 0.1, first), rng.normal(0.4, 0.02, second)
    of_a, of_b = (np.repeat(of[:, None], 50, axis=1) for of in (a, b))
    values = np.stack([of_a.mean(axis=0), of_b.mean(axis=0)])[:, None, :]
    sample = Sample(values, np.arange(50), ["ndcg"], Method(interval="t"), [seeds_of(of_a), seeds_of(of_b)])
    (found,), expected = sample.pairs(0, 1), stats.ttest_ind(a, b, equal_var=False)
    correct([found], 0.05, "ndcg")
    interval = expected.confidence_interval(0.95)
    assert (found.p_value, found.df) == (pytest.approx(expected.pvalue), pytest.approx(expected.df))
    assert (found.low, found.high) == (pytest.approx(interval.low), pytest.approx(interval.high))


def test_a_trained_system_and_a_baseline_by_hand() -> None:
    """Variance over users 4, over three seeds 1; the baseline has no seeds."""
    users, seeds = np.array([4.0]), [np.array([1.0])]
    uncapped = 5**2 / (4**2 / 99 + 1 / 2)
    assert uncapped > 2 and degrees_of_freedom(users, 100, seeds, [3]).item() == pytest.approx(2)  # the seeds' own
    assert degrees_of_freedom(users, 100, [], []).item() == pytest.approx(99)
    assert degrees_of_freedom(np.array([0.01]), 100, seeds, [3]) == pytest.approx(2)
    assert two_sided_p(np.array([4.302653]), np.array([2.0])) == pytest.approx(0.05)


def test_a_contrast_has_squared_weights() -> None:
    """Two settings: the seed variance of a mean of two systems is a quarter of their sum; the cap is that of all
    four."""
    rng = np.random.default_rng(3)
    runs = [rng.random((3, 60)) * 0.1 + np.linspace(0, 1, 60) for _ in range(4)]
    values = np.stack([run.mean(axis=0) for run in runs])[:, None, :]
    sample = Sample(values, np.arange(60), ["ndcg"], Method(interval="t"), [seeds_of(run) for run in runs])
    (found,) = sample.contrast([0, 1], [2, 3])
    differences = (values[0] + values[1] - values[2] - values[3])[0] / 2
    over_seeds = sum(seeds_of(run).variance[0] for run in runs) / 4
    assert found["difference"] == pytest.approx(differences.mean())
    assert found["standard_error"] == pytest.approx(np.sqrt(differences.var(ddof=1) / 60 + over_seeds))
    assert found["df"] <= 8


def test_one_seed_is_not_tested() -> None:
    rng = np.random.default_rng(4)
    values, three = rng.random((3, 1, 40)), seeds_of(rng.random((3, 40)))
    seeds = [three, Seeds(1, np.zeros(1)), Seeds(3, three.variance, "trained on test targets")]
    sample = Sample(values, np.arange(40), ["ndcg"], Method(interval="t"), seeds)
    pairs = [pair for other in (1, 2) for pair in sample.pairs(0, other)]
    correct(pairs, 0.05, "ndcg")
    assert [pair.untested for pair in pairs] == [ONE_SEED, "trained on test targets"]
    for pair in pairs:
        assert np.isnan([pair.p_value, pair.p_corrected, pair.low, pair.high, pair.detectable]).all()
        assert not pair.is_significant(0.05) and np.isfinite(pair.difference)


def test_equal_systems_are_not_different_and_rounding_is_no_variance() -> None:
    values = np.random.default_rng(2).random(20)
    sample = Sample(np.stack([values, values, values + 0.1])[:, None, :], np.arange(20), ["ndcg"], Method())
    (same,), (shifted,) = sample.pairs(0, 1), sample.pairs(2, 0)
    correct([same, shifted], 0.05, "ndcg")
    assert (same.difference, same.p_value, same.effect_size, same.low, same.high) == (0.0, 1.0, 0.0, 0.0, 0.0)
    assert shifted.untested == NO_VARIANCE and np.isnan(shifted.p_corrected)


def test_interval_and_p_say_the_same_after_correction() -> None:
    """Of 40 differences of every size: the interval leaves out 0 exactly where the corrected p is below alpha."""
    rng = np.random.default_rng(5)
    base = rng.random(100)
    values = np.stack([base, *(base + rng.normal(size, 0.5, 100) for size in np.linspace(0, 0.4, 40))])[:, None, :]
    sample = Sample(np.repeat(values, 2, axis=1), np.arange(100), ["ndcg", "mrr"], Method(interval="t"))
    pairs = [pair for row in range(1, 41) for pair in sample.pairs(row, 0)]
    correct(pairs, 0.05, "ndcg")
    deciding = [pair for pair in pairs if pair.metric == "ndcg"]
    assert 5 < sum(pair.is_significant(0.05) for pair in deciding) < 35
    assert all((pair.low > 0 or pair.high < 0) == pair.is_significant(0.05) for pair in deciding)
    assert [pair.p_corrected for pair in deciding] == pytest.approx(holm([pair.p_value for pair in deciding]))
    for pair in pairs:  # another metric decides nothing, and costs nothing
        if pair.metric == "mrr":
            assert np.isnan(pair.p_corrected) and (pair.low > 0 or pair.high < 0) == (pair.p_value < 0.05)


def test_the_minimum_detectable_effect_is_found_four_times_in_five() -> None:
    # large samples: 1.960 + 0.842 standard errors
    assert minimum_detectable(np.array([0.01]), np.array([1e7]), 0.05) == pytest.approx(0.028016, abs=1e-5)
    for df in (2.0, 8.0, 300.0):
        (size,) = minimum_detectable(np.array([1.0]), np.array([df]), 0.05)
        critical = stats.t.ppf(0.975, df)
        assert stats.nct.sf(critical, df, size) == pytest.approx(0.8, abs=1e-6)
    tiny = minimum_detectable(np.array([1.0, 1.0]), np.array([2.0, 2.0]), 1e-9)
    assert np.isfinite(tiny).all() and (tiny > 1000).all()


def test_a_single_user_has_no_interval() -> None:
    assert np.isnan(estimate(np.array([0.5, 1.0]), np.array([1, 1])).half_width())


def test_holm_by_hand() -> None:
    # sorted .01 .02 .03: times 3, 2, 1 -> .03, .04, max(.04, .03)
    assert holm([0.03, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
    assert holm([0.9, 0.8]) == pytest.approx([1.0, 1.0])
    corrected = holm([0.01, float("nan"), 0.04])
    assert corrected[0] == pytest.approx(0.02) and np.isnan(corrected[1]) and corrected[2] == pytest.approx(0.04)


def test_a_whole_weight_is_so_many_equal_units() -> None:
    rng = np.random.default_rng(8)
    user, weight = rng.integers(0, 25, 90), rng.integers(1, 4, 90)
    values = rng.random((2, 1, 90))
    repeated, of_user = np.repeat(values, weight, axis=2), np.repeat(user, weight)
    for method in (Method(interval="t"), Method("bca", 400)):
        once = Sample(values, user, ["x"], method, weight=weight.astype(float))
        many = Sample(repeated, of_user, ["x"], method)
        assert once.interval(1) == pytest.approx(many.interval(1))
        (mine,), (theirs,) = once.pairs(0, 1), many.pairs(0, 1)
        assert (mine.difference, mine.p_value) == (pytest.approx(theirs.difference), pytest.approx(theirs.p_value))
    light, heavy = estimate(values[0, 0], user, weight.astype(float)), estimate(repeated[0, 0], of_user)
    assert (light.mean, light.users) == (pytest.approx(heavy.mean), heavy.users)
    assert light.standard_error == pytest.approx(heavy.standard_error)
