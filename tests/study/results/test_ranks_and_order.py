"""Orders of variants over blocks: mean ranks over data sets, Kendall's tau, significant flips, seeds; fronts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_study import QUICK, MadeStudy, ranks_of
from scipy import stats

from recsys_lab.study.results import read_results
from recsys_lab.study.results.mean_ranks import over_data_sets

SYSTEMS = ("a", "b", "c", "d")


def test_friedman_and_nemenyi_are_those_of_the_literature() -> None:
    table = np.random.default_rng(0).random((12, 4)) + [0.4, 0.2, 0.1, 0.0]
    values = {f"d{i}": dict(zip(SYSTEMS, row, strict=True)) for i, row in enumerate(table.tolist())}
    found = over_data_sets(values, "ndcg", "split", [], 0.05)
    assert found is not None
    chi = stats.friedmanchisquare(*table.T).statistic
    f = 11 * chi / (12 * 3 - chi)
    assert found.p_value == pytest.approx(stats.f.sf(f, 3, 33))
    assert found.critical_difference == pytest.approx(2.569 * np.sqrt(4 * 5 / (6 * 12)), abs=2e-3)  # Demsar's table 5
    ranks = stats.rankdata(-table, axis=1).mean(axis=0)
    assert found.places == pytest.approx(sorted(ranks)) and found.names[0] == SYSTEMS[int(ranks.argmin())]
    assert found.unit == "data sets" and found.count == 12


def test_too_few_data_sets_tell_nothing_apart() -> None:
    values = {
        d: {"a": 0.3, "b": 0.2, "c": 0.1, "only here": 0.5} if d == "x" else {"a": 3.0, "b": 2, "c": 1} for d in "xy"
    }
    found = over_data_sets(values, "ndcg", "split", [], 0.05)
    assert found is not None
    assert found.names == ["a", "b", "c"] and found.groups == [[0, 1, 2]] and "too few" in found.note
    assert found.p_value == pytest.approx(1 / 6)  # that the second data set has the order of the first
    assert over_data_sets({"x": values["x"]}, "ndcg", "split", [], 0.05) is None


@pytest.fixture
def flipping(tmp_path: Path) -> MadeStudy:
    """a beats b by far under one split and b beats a under the other; c and d are close together everywhere."""
    made = MadeStudy(tmp_path, {"split": ["loo", "time"], "encoder": list(SYSTEMS)})
    skills = {"loo": (2.0, 0.5, 0.0, 0.01), "time": (0.5, 2.0, 0.01, 0.0)}
    for split, of in skills.items():
        for encoder, value in zip(SYSTEMS, of, strict=True):
            for seed in (0, 1, 2):
                ranks = ranks_of(value, seed)
                made.add({"split": split, "encoder": encoder}, seed, ranks, split=split, split_hash=split)
    return made


def test_the_order_changes_where_a_pair_flips_significantly(flipping: MadeStudy) -> None:
    results = read_results(flipping.plan(), method=QUICK)
    (order,) = results.orders
    assert order.differs_in == ["split"] and order.pairs == 6 and sorted(order.names) == list(SYSTEMS)
    means = [
        [
            block.comparison.rows[[line.match for line in block.lines].index(name)].estimates["ndcg"].mean
            for name in order.names
        ]
        for block in results.blocks
    ]
    assert order.tau == pytest.approx(stats.kendalltau(*means).statistic)
    significant = [flip for flip in order.flips if flip.is_significant]
    assert [(flip.first, flip.second) for flip in significant] == [("a", "b")]
    assert significant[0].difference_a > 0 > significant[0].difference_b
    assert order.significant_pairs == 5  # all but c and d
    assert order.seed_tau_a is not None and order.seed_tau_a > 0.6
    assert "changes for 1 of the 5 pairs that differ significantly under both splits" in results.answer.sentence
    assert results.critical_differences == []  # two splits of one data set are not two data sets


def test_over_users_the_groups_are_the_letters(flipping: MadeStudy) -> None:
    block = read_results(flipping.plan(), method=QUICK).blocks[0]
    diagram = block.critical_difference
    assert diagram is not None
    assert diagram.names[:2] == ["a", "b"] and diagram.unit == "users" and diagram.count == 200
    assert diagram.groups == [[2, 3]]
    letters = {line.name: line.letters for line in block.lines}
    assert (letters["a"], letters["b"], letters["c"], letters["d"]) == ("a", "b", "c", "c")


def test_fronts(tmp_path: Path) -> None:
    made = MadeStudy(tmp_path, {"encoder": list(SYSTEMS)})
    costs = {"a": 100.0, "b": 50.0, "c": 60.0, "d": 1.0}
    for encoder, value in zip(SYSTEMS, (2.0, 1.0, 0.5, 0.0), strict=True):
        facts: dict[str, Any] = {"train_seconds": costs[encoder]} | ({"parameters": None} if encoder == "a" else {})
        made.add({"encoder": encoder}, 0, ranks_of(value), **facts)
    (block,) = read_results(made.plan(), method=QUICK).blocks
    seconds, parameters = block.fronts
    assert {point.name: point.is_on_front for point in seconds.points} == {"a": True, "b": True, "c": False, "d": True}
    assert {point.name for point in parameters.points} == {"b", "c", "d"}  # a's are not known
    assert [point.name for point in parameters.points if point.is_on_front] == ["b"]
