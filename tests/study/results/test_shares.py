"""Shares of the best possible score: the ratio, its interval, and where a report shows them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_study import QUICK, MadeStudy, ranks_of

from recsys_lab.data.sources import get_source
from recsys_lab.data.sources.worlds.known_world import KnownWorld
from recsys_lab.study.pages.figures.share_heat import share_figure, share_table
from recsys_lab.study.pages.markdown import as_markdown
from recsys_lab.study.pages.readme import write_readme
from recsys_lab.study.pages.study_page import study_page
from recsys_lab.study.results import read_results
from recsys_lab.study.results.shares import share_of


def test_the_best_model_itself_has_all_of_it() -> None:
    best = np.random.default_rng(0).random(50)
    share = share_of(best, best, [best.mean()] * 3, 0.95)
    assert (share.mean, share.low, share.high) == (1.0, 1.0, 1.0)


def test_the_interval_by_hand() -> None:
    """Of a ratio over four users, and of two seeds whose means differ."""
    values, best = np.array([0.5, 0.0, 0.5, 1.0]), np.array([1.0, 0.0, 1.0, 1.0])
    left = [0.5 - 2 / 3, 0.0, 0.5 - 2 / 3, 1 - 2 / 3]
    error = (4 / 3 * sum(x**2 for x in left) / 3**2) ** 0.5
    one = share_of(values, best, [0.5], 0.95)
    assert one.mean == pytest.approx(2 / 3) and one.high - one.mean == pytest.approx(3.182446 * error)
    two = share_of(values, best, [0.45, 0.55], 0.95)
    seeds = (0.1 / 0.75) ** 2 / 2 / 2  # variance of two shares, over two
    assert two.high - two.mean == pytest.approx(12.706205 * (error**2 + seeds) ** 0.5)


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    draw = np.random.default_rng(3)
    held = 0
    for _ in range(600):
        best = draw.random(200)
        values = best * (draw.random(200) < 0.7)
        share = share_of(values, best, [values.mean()], 0.9)
        held += share.low <= 0.7 <= share.high
    assert 0.86 < held / 600 < 0.94


def world_study(root: Path) -> MadeStudy:
    """One model that knows `world-copy`, one that knows it for half of the users, and a set that is no world."""
    made = MadeStudy(root, {"world": ["copy", "none"], "encoder": ["all", "half"]})
    world = get_source("world-copy")
    assert isinstance(world, KnownWorld)
    greater, ties = world.best_counts()
    known = greater + 1 + ties / 2
    known[ties > 1] = np.inf  # ranks of a made study have no more ties than one
    half = np.where(np.arange(len(known)) % 2 == 0, known, np.inf)
    best = world.best_scores()["test"]
    for seed in (0, 1):
        for encoder, ranks in (("all", known), ("half", half)):
            values = {"world": "copy", "encoder": encoder}
            made.add(values, seed, ranks, dataset="world-copy", data_hash="w", best_possible=best, tie_order="file")
            made.add({"world": "none", "encoder": encoder}, seed, ranks_of(1.0, seed), dataset="one", tie_order="file")
    return made


def test_a_study_of_worlds_shows_them(tmp_path: Path) -> None:
    plan = world_study(tmp_path).plan()
    results = read_results(plan, method=QUICK)
    assert [bool(block.shares) for block in results.blocks] == [True, False]
    table = share_table(results)
    assert list(table) == ["all", "half"] and [len(shares) for shares in table.values()] == [1, 1]
    (whole,), (part,) = table.values()
    assert whole is not None and part is not None
    assert whole.mean == pytest.approx(1.0, abs=0.01) and part.mean == pytest.approx(0.5, abs=0.02)
    assert part.low < 0.5 < part.high and part.high - part.low < 0.06
    page = study_page(results)
    assert page.sections[0].key == "shares" and page.figures[0].name == "shares"
    text = as_markdown(results)
    assert f"| all | {whole.mean:.3f} [" in text and "## Share of the best possible score" in text
    written = write_readme(results, page, plan)
    assert [path.name for path in written if path.suffix == ".svg"] == ["shares.svg"]
    svg = (tmp_path / "figures" / "shares.svg").read_text()
    assert "100 %" in svg and "50 %" in svg


def test_a_world_of_another_size_is_measured_against_its_expectation(tmp_path: Path) -> None:
    made = MadeStudy(tmp_path, {"encoder": ["a", "b"]})
    for encoder in ("a", "b"):
        best = {"ndcg@10": 0.5, "ndcg@10_error": 0.01}
        made.add({"encoder": encoder}, 0, ranks_of(1.0), dataset="world-copy", best_possible=best)
    (block,) = read_results(made.plan(), method=QUICK).blocks
    for share, row in zip(block.shares, block.comparison.rows, strict=True):
        assert share.mean == pytest.approx(row.estimates["ndcg"].mean / 0.5)


def test_no_world_no_figure(tmp_path: Path) -> None:
    made = MadeStudy(tmp_path, {"encoder": ["a", "b"]})
    for encoder in ("a", "b"):
        made.add({"encoder": encoder}, 0, ranks_of(1.0))
    results = read_results(made.plan(), method=QUICK)
    assert share_figure(results) is None and "best possible" not in as_markdown(results)
