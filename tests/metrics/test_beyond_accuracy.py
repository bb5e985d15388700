"""List metrics by hand, and against plain loops on random lists."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from recsys_lab.evaluation import list_metrics as metrics

NUM_ROWS = 9  # V: items 1..8; 7 and 8 are no candidates
IS_CANDIDATE = np.array([False, *[True] * 6, False, False])
COUNTS = np.array([0, 5, 1, 1, 3, 2, 8, 0, 0])


def short_lists(k: int) -> st.SearchStrategy[list[list[int]]]:
    """Lists of up to k distinct candidates, filled up with padding."""
    one = st.lists(st.integers(1, 6), max_size=k, unique=True).map(lambda items: items + [0] * (k - len(items)))
    return st.lists(one, min_size=1, max_size=12)


def slow_gini(values: list[int]) -> float:
    """Half the relative mean absolute difference."""
    n, total = len(values), sum(values)
    return sum(abs(a - b) for a in values for b in values) / (2 * n * total) if total else 0.0


@given(short_lists(4))
@settings(max_examples=150, deadline=None)
def test_metrics_of_exposure_are_those_of_loops(lists: list[list[int]]) -> None:
    items = [item for row in lists for item in row if item]
    exposed = metrics.exposure(np.array(lists), NUM_ROWS)
    assert exposed.tolist() == [items.count(i) if i else 0 for i in range(NUM_ROWS)]
    candidates = [i for i in range(NUM_ROWS) if IS_CANDIDATE[i]]
    assert metrics.coverage(exposed, IS_CANDIDATE) == len(set(items)) / len(candidates)
    assert metrics.gini(exposed, IS_CANDIDATE) == pytest.approx(slow_gini([items.count(i) for i in candidates]))
    shares = [items.count(i) / len(items) for i in set(items)]
    assert metrics.entropy(exposed) == pytest.approx(-sum(p * math.log2(p) for p in shares), abs=1e-12)
    if items:
        popularity = sum(int(COUNTS[i]) for i in items) / len(items)
        assert metrics.average_popularity(exposed, COUNTS) == pytest.approx(popularity)
        information = sum(-math.log2(COUNTS[i] / 20) for i in items) / len(items)
        assert metrics.novelty(exposed, COUNTS) == pytest.approx(information)


def test_exposure_metrics_by_hand() -> None:
    exposed = metrics.exposure(np.array([[1, 2], [1, 3], [1, 0]]), NUM_ROWS)  # item 1 three times, 2 and 3 once
    assert metrics.coverage(exposed, IS_CANDIDATE) == 3 / 6
    assert metrics.entropy(exposed) == pytest.approx(0.6 * math.log2(5 / 3) + 2 * 0.2 * math.log2(5))
    assert metrics.average_popularity(exposed, COUNTS) == (3 * 5 + 1 + 1) / 5
    assert metrics.novelty(exposed, COUNTS) == pytest.approx((3 * math.log2(4) + 2 * math.log2(20)) / 5)
    # sorted exposure 0 0 0 1 1 3: sum over i of (2i - 7) x_i = 1 + 3 + 15 = 19; divided by 6 * 5
    assert metrics.gini(exposed, IS_CANDIDATE) == pytest.approx(19 / 30)


@pytest.mark.parametrize(("exposed", "gini", "entropy"), [([0, 4, 4, 4, 4], 0.0, 2.0), ([0, 9, 0, 0, 0], 0.75, 0.0)])
def test_extremes_of_inequality(exposed: list[int], gini: float, entropy: float) -> None:
    assert metrics.gini(np.array(exposed), np.arange(5) > 0) == pytest.approx(gini)
    assert metrics.entropy(np.array(exposed)) == entropy


def test_no_recommendation_at_all() -> None:
    nothing = metrics.exposure(np.zeros((2, 3), dtype=int), NUM_ROWS)
    assert metrics.coverage(nothing, IS_CANDIDATE) == metrics.gini(nothing, IS_CANDIDATE) == 0
    assert metrics.entropy(nothing) == metrics.novelty(nothing, COUNTS) == 0


def test_debiased_hit_rate_by_hand() -> None:
    is_hit, counts = np.array([True, False, True, False]), np.array([4, 1, 16, 0])  # the last one is cold
    # weights 1/4, 1, 1/16 and 1 (cold: as if seen once)
    assert metrics.debiased_hit_rate(is_hit, counts, 1.0) == pytest.approx((1 / 4 + 1 / 16) / (2 + 1 / 4 + 1 / 16))
    assert metrics.debiased_hit_rate(is_hit, counts, 0.5) == pytest.approx((1 / 2 + 1 / 4) / (2 + 1 / 2 + 1 / 4))
    assert metrics.debiased_hit_rate(is_hit, counts, 0.0) == is_hit.mean()


def test_debiasing_undoes_a_popularity_bias() -> None:
    """What is observed in proportion to popularity is weighed back to what would be seen without the bias."""
    rng = np.random.default_rng(0)
    popularity = rng.integers(1, 200, size=500)
    is_good = rng.random(500) < np.where(popularity > 100, 0.9, 0.1)  # the model does well on popular items
    observed = rng.choice(500, size=200_000, p=popularity / popularity.sum())
    assert metrics.debiased_hit_rate(is_good[observed], popularity[observed], 1.0) == pytest.approx(
        is_good.mean(), abs=0.02
    )
    assert is_good[observed].mean() > is_good.mean() + 0.15


def test_serendipity_by_hand() -> None:
    hit, popular = np.array([True, True, False, False]), np.array([True, False, True, False])
    assert metrics.serendipity(hit, popular) == 1 / 4


def random_features(seed: int) -> np.ndarray:
    """(V, F) multi-hot; some items have none."""
    features = (np.random.default_rng(seed).random((NUM_ROWS, 5)) < 0.4).astype(float)
    features[0] = features[3] = 0
    return features


def slow_diversity(row: list[int], features: np.ndarray) -> float:
    described = [features[i] for i in row if i and features[i].any()]
    pairs = [1 - a @ b / math.sqrt((a @ a) * (b @ b)) for a, b in combinations(described, 2)]
    return sum(pairs) / len(pairs) if pairs else math.nan


@given(short_lists(5), st.integers(0, 10))
@settings(max_examples=100, deadline=None)
def test_diversity_is_that_of_all_pairs(lists: list[list[int]], seed: int) -> None:
    features = random_features(seed)
    got = metrics.intra_list_diversity(np.array(lists), sparse.csr_matrix(features))
    np.testing.assert_allclose(got, [slow_diversity(row, features) for row in lists], atol=1e-12)


def test_diversity_by_hand() -> None:
    features = np.array([[0, 0], [1, 0], [1, 0], [0, 1], [1, 1]])
    lists = np.array([[1, 2, 0], [1, 3, 0], [1, 4, 0], [1, 2, 3], [1, 0, 0]])
    got = metrics.intra_list_diversity(lists, sparse.csr_matrix(features))
    np.testing.assert_allclose(got, [0, 1, 1 - 1 / math.sqrt(2), 2 / 3, math.nan], atol=1e-12)
