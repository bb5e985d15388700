"""Bootstrap and sign flips: against scipy, by hand, and over many made comparisons."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy import stats

from recsys_lab.study.pairs import Method, Sample, correct, which_pairs
from recsys_lab.study.resampling import (
    bootstrap_interval,
    bootstrap_means,
    flipped_means,
    two_sided_p,
    user_sums,
)
from recsys_lab.study.statistics import holm, paired_test, smallest_detectable

REPEATS = 500


def made_ndcg(rng: np.random.Generator, shape: tuple[int, ...], worst: float = 60.0) -> np.ndarray:
    """ndcg@10 of ranks: mostly 0, as real ones are."""
    rank = rng.integers(1, int(worst), shape)
    return np.where(rank <= 10, 1 / np.log2(rank + 1.0), 0.0)


def test_sums_over_users_by_hand() -> None:
    sums, counts = user_sums(np.array([[1.0, 2.0], [3.0, 0.0], [5.0, 1.0]]), np.array([7, 3, 7]))
    assert sums.tolist() == [[3.0, 0.0], [6.0, 3.0]] and counts.tolist() == [1.0, 2.0]
    sums, counts = user_sums(np.array([[1.0], [3.0]]), np.array([9, 4]))
    assert sums.tolist() == [[3.0], [1.0]] and counts.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("kind", ["percentile", "bca"])
def test_intervals_are_scipys(kind: str) -> None:
    values = made_ndcg(np.random.default_rng(0), (120,), 30)
    sums, counts = user_sums(values[:, None], np.arange(120))
    drawn = bootstrap_means(sums, counts, 20_000)
    (got,) = bootstrap_interval(drawn, sums, counts, kind)  # type: ignore[arg-type]
    expected = stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method=kind, rng=np.random.default_rng(1)
    ).confidence_interval
    assert got == pytest.approx([expected.low, expected.high], abs=0.003)
    assert got[0] < values.mean() < got[1]


def test_blocks_change_nothing_of_what_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    sums, counts = user_sums(np.random.default_rng(0).random((50, 3)), np.arange(50) // 2)
    whole = bootstrap_means(sums, counts, 30), flipped_means(sums, counts, 30)
    assert np.array_equal(whole[0], bootstrap_means(sums, counts, 30)) and whole[0].shape == (30, 3)
    monkeypatch.setattr("recsys_lab.study.resampling.BLOCK_VALUES", 25 * 7)
    assert bootstrap_means(sums, counts, 30) == pytest.approx(whole[0])


def test_bootstrap_has_the_standard_error_over_users() -> None:
    rng = np.random.default_rng(2)
    user = np.repeat(np.arange(300), rng.integers(1, 5, 300))
    values = rng.random(len(user)) + rng.normal(0, 1, 300)[user]
    sums, counts = user_sums(values[:, None], user)
    from recsys_lab.study.statistics import estimate

    drawn = bootstrap_means(sums, counts, 4000)
    assert drawn.std() == pytest.approx(estimate(values, user).standard_error, rel=0.08)
    assert drawn.mean() == pytest.approx(values.mean(), abs=0.02)


def test_sign_flips_are_the_exact_test() -> None:
    # eight users: all 256 sign vectors can be written down
    difference = np.array([0.3, -0.1, 0.5, 0.2, 0.0, 0.4, -0.2, 0.6])
    null = [np.mean(np.array(signs) * difference) for signs in product((-1, 1), repeat=8)]
    exact = np.mean(np.abs(null) >= abs(difference.mean()) - 1e-12)
    sums, counts = user_sums(np.stack([difference + 1, np.ones(8)], axis=1), np.arange(8))
    flipped = flipped_means(sums, counts, 40_000)
    p = two_sided_p(flipped[:, :1] - flipped[:, 1:], np.array([difference.mean()]))
    assert p[0] == pytest.approx(exact, abs=0.01)


def test_p_values_by_hand() -> None:
    null = np.array([[0.1, 0.0], [-0.3, 0.0], [0.2, 0.0]])
    assert two_sided_p(null, np.array([-0.2, 0.0])).tolist() == [0.75, 1.0]
    assert two_sided_p(null, np.array([5.0, 1.0])).tolist() == [0.25, 0.25]


@pytest.mark.parametrize("test", ["t", "bootstrap", "sign_flip"])
def test_an_a_a_comparison_rejects_at_no_more_than_alpha(test: str) -> None:
    """500 repeats of three equal systems on 200 users, three pairs each: after Holm, any rejection is a false alarm."""
    rng, users, rows = np.random.default_rng(11), 200, 3
    values = made_ndcg(rng, (rows, REPEATS, users))
    sample = Sample(values, np.arange(users), [str(i) for i in range(REPEATS)], Method(test, "t", 1999))  # type: ignore[arg-type]
    pairs = [sample.pairs(a, b) for a, b in which_pairs(rows, None)]
    alarms = sum(min(holm([pair[i].p_value for pair in pairs])) < 0.05 for i in range(REPEATS))
    assert alarms <= stats.binom.ppf(0.999, REPEATS, 0.05)
    single = np.mean([pair.p_value < 0.05 for pair in pairs[0]])
    assert stats.binom.ppf(0.001, REPEATS, 0.05) <= single * REPEATS <= stats.binom.ppf(0.999, REPEATS, 0.05)


@pytest.mark.parametrize("test", ["t", "bootstrap", "sign_flip"])
def test_a_planted_effect_of_the_smallest_detectable_size_is_found_four_times_in_five(test: str) -> None:
    rng, users = np.random.default_rng(12), 200
    base = rng.random((REPEATS, users))
    noise = rng.normal(0, 0.3, (REPEATS, users))
    effect = smallest_detectable(0.3 / np.sqrt(users), users)
    sample = Sample(
        np.stack([base, base + noise + effect]),
        np.arange(users),
        [str(i) for i in range(REPEATS)],
        Method(test, "t", 1999),  # type: ignore[arg-type]
    )
    found = np.mean([pair.p_value < 0.05 for pair in sample.pairs(1, 0)])
    assert 0.74 < found < 0.86


def test_smallest_detectable_by_hand() -> None:
    # large samples: 1.960 + 0.842 standard errors
    assert smallest_detectable(0.01, 10**7) == pytest.approx(0.028016, abs=1e-5)
    assert np.isnan(smallest_detectable(0.01, 1))
    sample = Sample(made_ndcg(np.random.default_rng(0), (3, 2, 50)), np.arange(50), ["x", "y"], Method(interval="t"))
    pairs = [pair for a, b in which_pairs(3, 0) for pair in sample.pairs(a, b)]
    correct(pairs, 0.05)
    assert [(p.a, p.b, p.metric) for p in pairs] == [(1, 0, "x"), (1, 0, "y"), (2, 0, "x"), (2, 0, "y")]
    for pair in pairs:
        assert pair.smallest_detectable == smallest_detectable(pair.standard_error, 50, 0.05 / 4)
        assert pair.p_corrected >= pair.p_value


def test_equal_systems_and_all_misses_have_no_difference() -> None:
    values = np.stack([np.zeros((2, 30))] * 2)
    for test in ("t", "bootstrap", "sign_flip"):
        sample = Sample(values, np.arange(30), ["x", "y"], Method(test, "bca", 200))  # type: ignore[arg-type]
        for pair in sample.pairs(1, 0):
            assert (pair.difference, pair.p_value, pair.low, pair.high) == (0.0, 1.0, 0.0, 0.0)
        assert sample.interval(0).tolist() == [[0.0, 0.0]] * 2


def test_a_single_user_has_neither_interval_nor_test() -> None:
    sample = Sample(np.ones((2, 1, 3)), np.zeros(3, dtype=int), ["x"], Method())
    assert np.isnan(sample.interval(0)).all() and np.isnan(sample.pairs(1, 0)[0].low)


@pytest.mark.parametrize("kind", ["bca", "percentile"])
@pytest.mark.parametrize("most", [1, 4])
def test_a_contrast_is_what_its_own_values_give(kind: str, most: int) -> None:
    """Everything is made once per system and combined; made from the combined values it is the same."""
    rng = np.random.default_rng(5)
    user = np.repeat(np.arange(150), rng.integers(1, most + 1, 150))
    values = made_ndcg(rng, (4, 1, len(user)))
    sample = Sample(values, user, ["x"], Method("t", kind, 300))  # type: ignore[arg-type]
    (found,) = sample.contrast([0, 1], [2, 3])
    combined = (values[0, 0] + values[1, 0] - values[2, 0] - values[3, 0]) / 2
    expected = paired_test(combined, np.zeros_like(combined), user)
    assert (found.difference, found.standard_error) == pytest.approx((expected.difference, expected.standard_error))
    assert (found.p_value, found.effect_size) == pytest.approx((expected.p_value, expected.effect_size))
    sums, counts = user_sums(combined[:, None], user)
    (ends,) = bootstrap_interval(bootstrap_means(sums, counts, 300), sums, counts, kind)  # type: ignore[arg-type]
    assert (found.low, found.high) == pytest.approx(tuple(ends))
