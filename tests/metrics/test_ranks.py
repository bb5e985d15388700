"""`target_ranks` against the definition, item by item, in all combinations of ties, seen, cold and hidden."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any, get_args

import numpy as np
import pytest
import torch
import whole_rows
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_lab.ops import target_ranks as row_ranks
from recsys_lab.ops.rank_metrics import MISS, means, ranking_values
from recsys_lab.ops.ranks import Ranks, Ties
from recsys_lab.ops.target_ranks import target_ranks
from recsys_lab.words import RecsysLabError

FIELDS = tuple(field.name for field in fields(Ranks))


def by_definition(
    scores: list[float], target: int, candidates: set[int], seen: set[int], ties: str
) -> tuple[int, int, int, bool, bool]:
    """One row, as the fields of `Ranks`."""
    left = candidates - seen
    cold, hidden = target not in candidates, target in candidates and target in seen
    if target not in left:
        return MISS, 0, len(left), cold, hidden
    greater = sum(scores[item] > scores[target] for item in left)
    equal = sum(scores[item] == scores[target] for item in left - {target})
    greater, equal = {
        "expected": (greater, equal),
        "conservative": (greater + equal, 0),
        "optimistic": (greater, 0),
    }[ties]
    return greater, equal, len(left), cold, hidden


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    rows, num_items = draw(st.integers(1, 5)), draw(st.integers(1, 9))
    levels = draw(st.sampled_from([1, 2, 3, 50]))  # few levels: many ties
    value = st.integers(0, levels - 1).map(lambda level: level / 4 - 1)
    items = st.integers(1, num_items)
    return {
        "scores": draw(
            st.lists(st.lists(value, min_size=num_items + 1, max_size=num_items + 1), min_size=rows, max_size=rows)
        ),
        "targets": draw(st.lists(items, min_size=rows, max_size=rows)),
        "candidates": draw(st.sets(items)),
        "seen": draw(st.lists(st.sets(items), min_size=rows, max_size=rows)),
        "padding": draw(st.sampled_from([0.0, 99.0, -99.0, math.nan, math.inf])),
    }


@settings(max_examples=200, deadline=None)
@given(case=cases(), ties=st.sampled_from(get_args(Ties)))
def test_ranks_by_definition(case: dict[str, Any], ties: Any) -> None:
    scores = torch.tensor(case["scores"])
    scores[:, 0] = case["padding"]  # means nothing, whatever it holds
    is_candidate = torch.tensor([item in case["candidates"] for item in range(scores.shape[1])])
    seen_ids = torch.tensor([item for row in case["seen"] for item in row], dtype=torch.int64)
    seen_offsets = torch.tensor([0, *np.cumsum([len(row) for row in case["seen"]])])
    kept = scores.clone()
    got = target_ranks(scores, torch.tensor(case["targets"]), is_candidate, seen_ids, seen_offsets, ties)
    assert torch.equal(scores[:, 1:], kept[:, 1:]), "scores are never written to"
    facts = (torch.tensor(case["targets"]), is_candidate, seen_ids, seen_offsets, ties)
    first, rows = scores[:1], len(scores)
    alike = [target_ranks(whole, *facts) for whole in (first.expand(rows, -1), first.repeat(rows, 1))]
    assert all(torch.equal(*(getattr(ranks, name) for ranks in alike)) for name in FIELDS), "one row for all of them"
    for row, target in enumerate(case["targets"]):
        expected = by_definition(case["scores"][row], target, case["candidates"], case["seen"][row], ties)
        assert tuple(getattr(got, name)[row].item() for name in FIELDS) == expected
        greater, equal = expected[:2]
        assert got.rank[row] == (math.inf if greater == MISS else greater + 1 + equal / 2)


def test_without_seen_items() -> None:
    scores, every = torch.tensor([[0.0, 3.0, 1.0, 2.0]]), torch.tensor([False, True, True, True])
    got = target_ranks(scores, torch.tensor([3]), every)
    assert got.rank.tolist() == [2.0] and got.num_candidates.tolist() == [3]


@pytest.mark.parametrize(("ties", "rank"), [("optimistic", 1.0), ("expected", 48.0), ("conservative", 95.0)])
def test_a_constant_scorer_gains_what_chance_would(ties: Any, rank: float) -> None:
    """Hit rate K / C over the C candidates that a user is left with, ndcg the mean gain of the first K of C places."""
    targets = torch.arange(1, 21)
    seen, offsets = torch.arange(91, 96).repeat(20), torch.arange(0, 101, 5)  # 5 of 100 seen: C = 95
    got = target_ranks(torch.full((20, 101), 0.25), targets, torch.arange(101) > 0, seen, offsets, ties)
    assert got.rank.tolist() == [rank] * 20 and got.num_candidates.tolist() == [95] * 20
    metrics = means(
        ranking_values(got.num_greater.numpy(), got.num_ties.numpy(), got.num_candidates.numpy(), (10, 95, 200))
    )
    if ties == "expected":
        assert metrics["hit_rate@10"] == pytest.approx(10 / 95, rel=1e-15) and metrics["auc"] == 0.5
        assert metrics["ndcg@10"] == pytest.approx(sum(1 / math.log2(r + 1) for r in range(1, 11)) / 95, rel=1e-14)
        assert metrics["hit_rate@95"] == metrics["hit_rate@200"] == 1.0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_scores_that_are_not_finite_are_an_error_that_names_the_row(bad: float) -> None:
    scores = torch.zeros(5, 4)
    scores[3, 2] = bad
    with pytest.raises(RecsysLabError, match="row 3 .*NaN or infinite"):
        target_ranks(scores, torch.ones(5, dtype=torch.int64), torch.arange(4) > 0)


def test_large_finite_scores_whose_sum_overflows_are_fine() -> None:
    scores = torch.tensor([[0.0, 3e38, 2e38, 3e38]])
    got = target_ranks(scores, torch.tensor([2]), torch.arange(4) > 0)
    assert got.rank.tolist() == [3.0]


def test_half_precision_and_double_scores_are_compared_as_float32() -> None:
    double = torch.tensor([[0.0, 1.0, 1.0 + 1e-12]], dtype=torch.float64)
    assert target_ranks(double, torch.tensor([1]), torch.arange(3) > 0).rank.tolist() == [1.5]
    half = torch.tensor([[0.0, 1.0, 2.0]], dtype=torch.bfloat16)
    assert target_ranks(half, torch.tensor([1]), torch.arange(3) > 0).rank.tolist() == [2.0]


@pytest.mark.parametrize("cached", [1, 100, 1 << 18])
@pytest.mark.parametrize("ties", get_args(Ties))
def test_blocks_of_columns_equal_whole_rows(ties: Any, cached: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_ranks, "CACHED_SCORES", cached)
    g = torch.Generator().manual_seed(cached)
    scores, targets = torch.randn(30, 77, generator=g).round(decimals=1), torch.randint(1, 77, (30,), generator=g)
    is_candidate = torch.rand(77, generator=g) > 0.2
    is_candidate[0] = False
    seen = [torch.randperm(76, generator=g)[:i] + 1 for i in range(30)]
    facts = (targets, is_candidate, torch.cat(seen), torch.tensor([0, *range(30)]).cumsum(0))
    got, expected = target_ranks(scores, *facts, ties), whole_rows.target_ranks(scores, *facts, ties)
    assert expected.is_cold.any() and expected.is_hidden.any()
    for name in FIELDS:
        assert torch.equal(getattr(got, name), getattr(expected, name)), name
