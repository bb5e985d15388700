"""Metrics of queries with several targets: every order of the ties, one after the other; closed forms; one target."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_lab.ops.query_metrics import QUERY_METRICS, query_values
from recsys_lab.ops.rank_metrics import MISS, RANKING_METRICS


def of_list(places: list[int], num_targets: int, k: int) -> dict[str, float]:
    """The textbook's definitions for one order. places: of the targets that are candidates, from 1."""
    within = sorted(place for place in places if place <= k)
    ideal = sum(1 / math.log2(r + 1) for r in range(1, min(num_targets, k) + 1))
    return {
        "recall": len(within) / num_targets,
        "hit_rate": float(bool(within)),
        "mrr": 1 / within[0] if within else 0.0,
        "ndcg": sum(1 / math.log2(place + 1) for place in within) / ideal,
        "map": sum((i + 1) / place for i, place in enumerate(within)) / min(num_targets, k),
    }


def over_all_orders(scores: list[int], targets: list[int], misses: int, k: int) -> dict[str, float]:
    """Mean over every order of the candidates in which no lower score stands above a higher one."""
    groups = [[i for i, s in enumerate(scores) if s == value] for value in sorted(set(scores), reverse=True)]
    found = []
    for orders in itertools.product(*(itertools.permutations(group) for group in groups)):
        ranking = list(itertools.chain(*orders))
        places = [ranking.index(target) + 1 for target in targets]
        found.append(of_list(places, len(targets) + misses, k))
    return {name: float(np.mean([one[name] for one in found])) for name in found[0]}


@st.composite
def queries(draw: st.DrawFn) -> tuple[list[int], list[int], int]:
    scores = draw(st.lists(st.integers(0, 3), min_size=1, max_size=6))
    targets = draw(st.lists(st.integers(0, len(scores) - 1), unique=True, max_size=4))
    return scores, targets, draw(st.integers(0 if targets else 1, 2))


@settings(max_examples=60, deadline=None)
@given(several=st.lists(queries(), min_size=1, max_size=3), k=st.integers(1, 7))
def test_each_metric_is_its_mean_over_all_orders_of_the_ties(
    several: list[tuple[list[int], list[int], int]], k: int
) -> None:
    greater, ties, first = [], [], []
    for scores, targets, misses in several:
        first.append(len(greater))
        for target in targets:
            greater.append(sum(score > scores[target] for score in scores))
            ties.append(sum(score == scores[target] for score in scores) - 1)
        greater += [MISS] * misses
        ties += [0] * misses
    expected = [over_all_orders(scores, targets, misses, k) for scores, targets, misses in several]
    for name, metric in QUERY_METRICS.items():
        found = metric(np.array(greater), np.array(ties), np.array(first), k)
        assert found == pytest.approx([one[name] for one in expected], abs=1e-12), name


@settings(max_examples=60, deadline=None)
@given(
    outranked=st.lists(st.tuples(st.one_of(st.integers(0, 30), st.just(MISS)), st.integers(0, 9)), min_size=1),
    k=st.integers(1, 20),
)
def test_with_one_target_they_are_those_of_one_target(outranked: list[tuple[int, int]], k: int) -> None:
    greater, ties = (np.array(column) for column in zip(*outranked, strict=True))
    ties = np.where(greater == MISS, 0, ties)
    first = np.arange(len(greater))
    for name, metric in RANKING_METRICS.items():
        assert QUERY_METRICS[name](greater, ties, first, k) == pytest.approx(metric(greater, ties, k), abs=1e-12)
    assert QUERY_METRICS["recall"](greater, ties, first, k) == pytest.approx(
        RANKING_METRICS["hit_rate"](greater, ties, k)
    )
    assert QUERY_METRICS["map"](greater, ties, first, k) == pytest.approx(RANKING_METRICS["mrr"](greater, ties, k))


@pytest.mark.parametrize(("candidates", "targets", "k"), [(50, 3, 10), (8, 8, 3), (1000, 20, 5)])
def test_a_constant_scorer_has_the_closed_form(candidates: int, targets: int, k: int) -> None:
    greater, ties = np.zeros(targets, dtype=np.int64), np.full(targets, candidates - 1)
    values = query_values(greater, ties, np.full(targets, candidates), np.array([0]), [k])
    assert values[f"recall@{k}"] == pytest.approx([k / candidates])
    none = math.comb(candidates - targets, k) / math.comb(candidates, k)
    assert values[f"hit_rate@{k}"] == pytest.approx([1 - none])
    assert values["auc"] == pytest.approx([0.5]) and values["mean_rank"] == pytest.approx([(candidates + 1) / 2])


def test_settled_ties_count_each_target_alone() -> None:
    greater, ties, first = np.array([2, 2, 5]), np.zeros(3, dtype=np.int64), np.array([0])  # two targets at one place
    assert QUERY_METRICS["hit_rate"](greater, ties, first, 3) == [1.0]
    assert QUERY_METRICS["recall"](greater, ties, first, 3) == pytest.approx([2 / 3])
    assert QUERY_METRICS["map"](greater, ties, first, 6) == pytest.approx([(1 / 3 + 1 / 3 + 3 / 6) / 3])


def test_a_list_of_all_targets_has_one_whatever_their_number() -> None:
    greater, ties, first = np.arange(5), np.zeros(5, dtype=np.int64), np.array([0])
    for name, metric in QUERY_METRICS.items():
        for k in (1, 3, 5, 9):
            assert metric(greater, ties, first, k) == pytest.approx([min(k, 5) / 5 if name == "recall" else 1.0])
