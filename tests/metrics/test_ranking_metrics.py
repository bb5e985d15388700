"""Metrics from ranks: tables worked out by hand, and another library on the same scores."""

from __future__ import annotations

import math

import ir_measures
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_lab.ops.rank_metrics import MISS, RANKING_METRICS, mean_place, means, ranking_values
from recsys_lab.ops.target_ranks import target_ranks

# candidates above the target and tied with it
GREATER = np.array([0, 1, 1, 2, 9, 10, MISS])
TIED = np.array([0, 0, 1, 0, 0, 0, 0])
LOG3 = 1 / math.log2(3)  # ndcg of rank 2

# metric, cutoff -> one value per target above; the third is at place 2 or 3
BY_HAND = {
    ("hit_rate", 1): [1, 0, 0, 0, 0, 0, 0],
    ("hit_rate", 2): [1, 1, 0.5, 0, 0, 0, 0],
    ("hit_rate", 3): [1, 1, 1, 1, 0, 0, 0],
    ("hit_rate", 10): [1, 1, 1, 1, 1, 0, 0],
    ("hit_rate", 20): [1, 1, 1, 1, 1, 1, 0],
    ("ndcg", 1): [1, 0, 0, 0, 0, 0, 0],
    ("ndcg", 2): [1, LOG3, LOG3 / 2, 0, 0, 0, 0],
    ("ndcg", 3): [1, LOG3, (LOG3 + 0.5) / 2, 0.5, 0, 0, 0],
    ("ndcg", 10): [1, LOG3, (LOG3 + 0.5) / 2, 0.5, 1 / math.log2(11), 0, 0],
    ("mrr", 1): [1, 0, 0, 0, 0, 0, 0],
    ("mrr", 3): [1, 0.5, (1 / 2 + 1 / 3) / 2, 1 / 3, 0, 0, 0],
    ("mrr", 20): [1, 0.5, (1 / 2 + 1 / 3) / 2, 1 / 3, 0.1, 1 / 11, 0],
}


@pytest.mark.parametrize(("name", "k"), BY_HAND)
def test_tables_by_hand(name: str, k: int) -> None:
    np.testing.assert_allclose(RANKING_METRICS[name](GREATER, TIED, k), BY_HAND[name, k], rtol=1e-12)


def test_means_auc_and_mean_rank_by_hand() -> None:
    greater, candidates = np.array([0, 2, 4, MISS]), np.array([5, 5, 5, 4])
    got = means(ranking_values(greater, np.zeros(4, dtype=int), candidates, (1, 3)))
    assert got == pytest.approx(
        {
            "hit_rate@1": 1 / 4,
            "hit_rate@3": 2 / 4,
            "ndcg@1": 1 / 4,
            "ndcg@3": 1.5 / 4,
            "mrr@1": 1 / 4,
            "mrr@3": (1 + 1 / 3) / 4,
            "auc": (4 / 4 + 2 / 4 + 0 / 4 + 0) / 4,  # the share of the other candidates below the target; a miss: none
            "mean_rank": (1 + 3 + 5 + 4) / 4,  # a miss counts as the last place
        }
    )


def test_a_single_candidate_and_no_target_at_all() -> None:
    none = np.zeros(0, dtype=np.int64)
    assert means(ranking_values(none, none, none, (10,))) == {}
    only = means(ranking_values(np.array([0]), np.array([0]), np.array([1]), (1, 50)))
    assert only["hit_rate@1"] == only["ndcg@50"] == only["mean_rank"] == 1 and only["auc"] == 0.5
    missed = means(ranking_values(np.array([MISS]), np.array([0]), np.array([0]), (1, 50)))
    assert missed.pop("mean_rank") == 1 and not any(missed.values())


@settings(max_examples=300, deadline=None)
@given(greater=st.integers(0, 12), ties=st.integers(0, 12), below=st.integers(0, 5), k=st.integers(1, 40))
def test_expectations_over_all_orders_of_the_ties(greater: int, ties: int, below: int, k: int) -> None:
    """Against every place that the target can take, one by one; K may exceed the candidates."""
    places = [greater + 1 + ahead for ahead in range(ties + 1)]
    gains = {"hit_rate": lambda r: 1.0, "ndcg": lambda r: 1 / math.log2(r + 1), "mrr": lambda r: 1 / r}
    at = (np.array([greater]), np.array([ties]))
    for name, gain in gains.items():
        expected = math.fsum(gain(r) for r in places if r <= k) / len(places)
        assert RANKING_METRICS[name](*at, k)[0] == pytest.approx(expected, rel=1e-13, abs=1e-15)
    candidates = greater + ties + 1 + below
    found = means(ranking_values(*at, np.array([candidates]), (k,)))
    assert found["mean_rank"] == pytest.approx(np.mean(places)) and found["mean_rank"] == mean_place(*at)[0]
    if candidates > 1:
        assert found["auc"] == pytest.approx(np.mean([(candidates - r) / (candidates - 1) for r in places]))


@pytest.mark.parametrize("candidates", [1, 7, 100, 1_682])
@pytest.mark.parametrize("k", [1, 5, 10, 20])
def test_a_constant_scorer_exactly(candidates: int, k: int) -> None:
    at = (np.array([0]), np.array([candidates - 1]))
    least = min(k, candidates)
    gains = 1.0 / np.log2(np.arange(2, least + 2))
    assert RANKING_METRICS["hit_rate"](*at, k)[0] == least / candidates
    assert RANKING_METRICS["ndcg"](*at, k)[0] == np.cumsum(gains)[-1] / candidates
    assert RANKING_METRICS["mrr"](*at, k)[0] == np.cumsum(1.0 / np.arange(1, least + 1))[-1] / candidates


def test_without_ties_the_gain_itself() -> None:
    """Bit for bit: no detour over sums."""
    greater, none = np.arange(50), np.zeros(50, dtype=np.int64)
    for k in (1, 10, 50):
        inside = greater < k
        assert (RANKING_METRICS["ndcg"](greater, none, k) == np.where(inside, 1 / np.log2(greater + 2.0), 0)).all()
        assert (RANKING_METRICS["mrr"](greater, none, k) == np.where(inside, 1 / (greater + 1.0), 0)).all()


def test_agrees_with_ir_measures() -> None:
    num_queries, num_items, cutoffs = 40, 60, (1, 5, 10, 20)
    draw = np.random.default_rng(0)
    scores = np.stack([draw.permutation(num_items + 1) for _ in range(num_queries)]) / 7  # no ties: oracles break them
    targets = draw.integers(1, num_items + 1, num_queries)
    ranks = target_ranks(torch.from_numpy(scores), torch.from_numpy(targets), torch.arange(num_items + 1) > 0)
    at = (ranks.num_greater.numpy(), ranks.num_ties.numpy())
    ours = means(ranking_values(*at, ranks.num_candidates.numpy(), cutoffs))

    relevant = {str(q): {str(targets[q]): 1} for q in range(num_queries)}
    run = {str(q): {str(i): float(scores[q, i]) for i in range(1, num_items + 1)} for q in range(num_queries)}
    theirs = {"hit_rate": ir_measures.Success, "ndcg": ir_measures.nDCG, "mrr": ir_measures.RR}
    measures = {f"{name}@{k}": measure @ k for name, measure in theirs.items() for k in cutoffs}
    got = ir_measures.calc_aggregate(list(measures.values()), relevant, run)
    assert 0 < ours["hit_rate@10"] < 1
    for name, measure in measures.items():
        assert ours[name] == pytest.approx(got[measure], abs=1e-12), name
