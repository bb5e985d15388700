"""The bootstrap over users, of rows: against scipy and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from recsys_lab.statistics.pairs import Method, Sample
from recsys_lab.statistics.resampling import bootstrap_interval, bootstrap_means, user_sums
from recsys_lab.statistics.rule import estimate


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
        (values,), np.mean, n_resamples=20_000, method=kind, random_state=np.random.default_rng(1)
    ).confidence_interval
    assert got == pytest.approx([expected.low, expected.high], abs=0.003)
    assert got[0] < values.mean() < got[1]


def test_blocks_change_nothing_of_what_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    sums, counts = user_sums(np.random.default_rng(0).random((50, 3)), np.arange(50) // 2)
    whole = bootstrap_means(sums, counts, 30)
    assert np.array_equal(whole, bootstrap_means(sums, counts, 30)) and whole.shape == (30, 3)
    monkeypatch.setattr("recsys_lab.statistics.resampling.BLOCK_VALUES", 25 * 7)
    assert bootstrap_means(sums, counts, 30) == pytest.approx(whole)


def test_bootstrap_has_the_standard_error_over_users() -> None:
    rng = np.random.default_rng(2)
    user = np.repeat(np.arange(300), rng.integers(1, 5, 300))
    values = rng.random(len(user)) + rng.normal(0, 1, 300)[user]
    sums, counts = user_sums(values[:, None], user)
    drawn = bootstrap_means(sums, counts, 4000)
    assert drawn.std() == pytest.approx(estimate(values, user).standard_error, rel=0.08)
    assert drawn.mean() == pytest.approx(values.mean(), abs=0.02)


def test_all_misses_and_a_single_user() -> None:
    sample = Sample(np.zeros((2, 2, 30)), np.arange(30), ["x", "y"], Method("bca", 200))
    assert sample.interval(0).tolist() == [[0.0, 0.0]] * 2
    sample = Sample(np.ones((2, 1, 3)), np.zeros(3, dtype=int), ["x"], Method())
    assert np.isnan(sample.interval(0)).all() and np.isnan(sample.pairs(1, 0)[0].low)


@pytest.mark.parametrize("kind", ["bca", "percentile"])
@pytest.mark.parametrize("most", [1, 4])
def test_the_interval_of_a_row_is_that_of_its_own_values(kind: str, most: int) -> None:
    rng = np.random.default_rng(5)
    user = np.repeat(np.arange(150), rng.integers(1, most + 1, 150))
    values = made_ndcg(rng, (4, 1, len(user)))
    sample = Sample(values, user, ["x"], Method(kind, 300))  # type: ignore[arg-type]
    sums, counts = user_sums(values[2, 0][:, None], user)
    (ends,) = bootstrap_interval(bootstrap_means(sums, counts, 300), sums, counts, kind)  # type: ignore[arg-type]
    assert sample.interval(2)[0] == pytest.approx(ends)
