"""Published numbers beside those of a study."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_study import MadeStudy, ranks_of
from small_data import ndcg

from recsys_lab.study.pages.latex import as_latex
from recsys_lab.study.pages.markdown import as_markdown
from recsys_lab.study.pages.sections import make_sections
from recsys_lab.study.pages.study_page import study_page
from recsys_lab.study.results import StudyResults, read_results
from recsys_lab.words import RecsysLabError


def results_with(tmp_path: Path, published: Any) -> StudyResults:
    study = MadeStudy(tmp_path, {"encoder": ["a", "b"]})
    for seed in (0, 1):
        study.add({"encoder": "a"}, seed, ranks_of(1.0, seed))
    study.add({"encoder": "b"}, 0, None)
    plan = study.plan()
    return read_results(replace(plan, study=replace(plan.study, report={"published": published})))


def test_the_mean_over_seeds_is_beside_it(tmp_path: Path) -> None:
    ours = float(np.mean([ndcg(ranks_of(1.0, seed), 10).mean() for seed in (0, 1)]))
    entry = {"variant": "a", "ndcg@10": ours / 0.96, "source": "A & B 2023"}
    more = [{"variant": "a", "ndcg@10": 2 * ours}, {"variant": "b", "ndcg@10": 0.1}]
    results = results_with(tmp_path, [entry, *more])
    first, higher, missing = results.published
    assert first.ours == pytest.approx(ours) and first.reached and not higher.reached
    assert missing.ours is None and missing.reached is None
    text = as_markdown(results)
    assert "## Published numbers beside ours" in text and f"| {ours:.4f} | -4.0 % | yes | A &amp; B 2023 |" in text
    assert "A number counts as reached at 95% of the published one or more" in text
    assert r"A \& B 2023" in as_latex(results)
    section = next(one for one in make_sections(results) if one.key == "published")
    cells = [[cell.text for cell in row] for row in section.cards[0].tables_first[0].cells]
    assert cells[0][3:] == [f"{ours:.4f}", "-4.0 %", "yes", "A & B 2023"]
    assert [row[5] for row in cells] == ["yes", "no", "-"]
    page = study_page(results).html
    assert "\N{MINUS SIGN}4.0 %" in page and re.search("<td[^>]*>\N{EN DASH}</td>", page)
    assert "Published numbers beside ours" in page and "A &amp; B 2023" in page


@pytest.mark.parametrize(
    ("published", "message"),
    [
        ([{"variant": "c", "ndcg@10": 1}], "no variant 'c'. There are: a, b"),
        ([{"variant": "a"}], "write metrics and numbers"),
        ([{"variant": "a", "ndcg@10": "high"}], "write metrics and numbers"),
        (["a"], "no variant None"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, published: Any, message: str) -> None:
    with pytest.raises(RecsysLabError, match=message):
        results_with(tmp_path, published)
