"""Metrics from ranks: tables worked out by hand, and another library on the same scores."""

from __future__ import annotations

import math

import ir_measures
import numpy as np
import pytest
import torch

from recsys_lab.metrics import RANKING_METRICS, ranking_metrics, target_ranks

RANKS = [1.0, 2.0, 2.5, 3.0, 10.0, 11.0, math.inf]
LOG3 = 1 / math.log2(3)  # ndcg of rank 2

# metric, cutoff -> one value per rank above
BY_HAND = {
    ("hit_rate", 1): [1, 0, 0, 0, 0, 0, 0],
    ("hit_rate", 2): [1, 1, 0, 0, 0, 0, 0],
    ("hit_rate", 3): [1, 1, 1, 1, 0, 0, 0],
    ("hit_rate", 10): [1, 1, 1, 1, 1, 0, 0],
    ("hit_rate", 20): [1, 1, 1, 1, 1, 1, 0],
    ("ndcg", 1): [1, 0, 0, 0, 0, 0, 0],
    ("ndcg", 2): [1, LOG3, 0, 0, 0, 0, 0],
    ("ndcg", 3): [1, LOG3, 1 / math.log2(3.5), 0.5, 0, 0, 0],
    ("ndcg", 10): [1, LOG3, 1 / math.log2(3.5), 0.5, 1 / math.log2(11), 0, 0],
    ("mrr", 1): [1, 0, 0, 0, 0, 0, 0],
    ("mrr", 3): [1, 0.5, 0.4, 1 / 3, 0, 0, 0],
    ("mrr", 20): [1, 0.5, 0.4, 1 / 3, 0.1, 1 / 11, 0],
}


@pytest.mark.parametrize(("name", "k"), BY_HAND)
def test_tables_by_hand(name: str, k: int) -> None:
    np.testing.assert_allclose(RANKING_METRICS[name](np.array(RANKS), k), BY_HAND[name, k], rtol=1e-12)


def test_means_auc_and_mean_rank_by_hand() -> None:
    rank = np.array([1.0, 3.0, 5.0, math.inf])
    candidates = np.array([5, 5, 5, 4])
    got = ranking_metrics(rank, candidates, (1, 3))
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
    assert ranking_metrics(np.array([]), np.array([]), (10,)) == {}
    only = ranking_metrics(np.array([1.0]), np.array([1]), (1,))
    assert only["hit_rate@1"] == 1 and only["mean_rank"] == 1 and 0 <= only["auc"] <= 1


def test_agrees_with_ir_measures() -> None:
    num_queries, num_items, cutoffs = 40, 60, (1, 5, 10, 20)
    draw = np.random.default_rng(0)
    scores = np.stack([draw.permutation(num_items + 1) for _ in range(num_queries)]) / 7  # no ties: oracles break them
    targets = draw.integers(1, num_items + 1, num_queries)
    ranks = target_ranks(torch.from_numpy(scores), torch.from_numpy(targets), torch.arange(num_items + 1) > 0)
    ours = ranking_metrics(ranks.rank.numpy(), ranks.num_candidates.numpy(), cutoffs)

    relevant = {str(q): {str(targets[q]): 1} for q in range(num_queries)}
    run = {str(q): {str(i): float(scores[q, i]) for i in range(1, num_items + 1)} for q in range(num_queries)}
    theirs = {"hit_rate": ir_measures.Success, "ndcg": ir_measures.nDCG, "mrr": ir_measures.RR}
    measures = {f"{name}@{k}": measure @ k for name, measure in theirs.items() for k in cutoffs}
    got = ir_measures.calc_aggregate(list(measures.values()), relevant, run)
    assert 0 < ours["hit_rate@10"] < 1
    for name, measure in measures.items():
        assert ours[name] == pytest.approx(got[measure], abs=1e-12), name
