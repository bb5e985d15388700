"""Orders of variants over blocks: Kendall's tau, significant flips, seeds; the front."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from made_study import QUICK, MadeStudy, ranks_of
from scipy import stats

from recsys_lab.study.pages.figures.fronts import front_figures, on_front
from recsys_lab.study.pages.figures.looks import Looks
from recsys_lab.study.results import read_results

SYSTEMS = ("a", "b", "c", "d")


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
    assert "changes for 1 of the 5 pairs that differ significantly under both splits" in results.answer.findings[-1]


def test_rows_that_do_not_differ_significantly_share_a_letter(flipping: MadeStudy) -> None:
    block = read_results(flipping.plan(), method=QUICK).blocks[0]
    letters = {line.name: line.letters for line in block.lines}
    assert (letters["a"], letters["b"], letters["c"], letters["d"]) == ("a", "b", "c", "c")


def test_the_front_is_what_nothing_beats_at_its_cost(tmp_path: Path) -> None:
    assert on_front([100, 50, 60, 1], [4, 3, 2, 1]) == [True, True, False, True]
    assert on_front([1, 1, 1], [2, 2, 1]) == [True, True, False], "equals are on it together"
    made = MadeStudy(tmp_path, {"encoder": list(SYSTEMS)})
    for place, (encoder, value) in enumerate(zip(SYSTEMS, (2.0, 1.0, 0.5, 0.0), strict=True), start=1):
        facts: dict[str, Any] = {"train_seconds": 60.0 * place, "parameters": None if encoder == "a" else 100 * place}
        made.add({"encoder": encoder}, 0, ranks_of(value), **facts)
    results = read_results(made.plan(), method=QUICK)
    seconds, parameters = front_figures(results.blocks[0], Looks(results))
    assert seconds.alt.endswith("on the front: a") and parameters.alt.endswith("on the front: b"), "a's are not known"
