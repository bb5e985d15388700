"""`report.best_of`: of the trials of a system, the best on validation is its row."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from made_study import QUICK, MadeStudy, ranks_of
from small_data import ndcg

from recsys_lab.study.pages.markdown import as_markdown
from recsys_lab.study.pages.study_page import study_page
from recsys_lab.study.plan.study_file import read_study
from recsys_lab.study.results import as_table, read_results
from recsys_lab.words import RecsysLabError

AXES = {"encoder": ["a", "b"], "recipe": ["paper", "ours"]}


def tried(root: Path, select: str, validation: dict[tuple[str, str, int], float]) -> MadeStudy:
    """`paper` is far better on the test targets, which must not matter."""
    made = MadeStudy(root, AXES, report={"best_of": "recipe"}, select=select)
    for (encoder, recipe, seed), reached in validation.items():
        ranks = ranks_of(0.8 if recipe == "paper" else 0.2, seed)
        run = made.add({"encoder": encoder, "recipe": recipe}, seed, ranks)
        file = run.folder / "metrics.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {select: reached}))
    return made


def test_the_best_on_validation_is_the_row_and_the_others_are_in_no_test(tmp_path: Path) -> None:
    made = tried(
        tmp_path,
        "val/ndcg@10",
        {
            ("a", "paper", 0): 0.2, ("a", "ours", 0): 0.3, ("a", "ours", 1): 0.1,  # the shared seed decides
            ("b", "paper", 0): 0.4, ("b", "ours", 0): 0.3,
        },
    )  # fmt: skip
    results = read_results(made.plan(), method=QUICK)
    (block,) = results.blocks
    assert {line.name: line.seeds for line in block.lines} == {"a": [0, 1], "b": [0]}
    assert {line.label for line in block.lines} == {"a_ours", "b_paper"}
    assert {one.axis for one in block.effects} == {"encoder"} and list(results.axes) == ["encoder"]
    assert [(one.system, one.reached, one.chosen) for one in results.trials] == [
        ("a", {"paper": 0.2, "ours": 0.3}, "ours"),
        ("b", {"paper": 0.4, "ours": 0.3}, "paper"),
    ]
    table = as_table(results)
    assert set(table.filter(table["block"] == block.key)["variant"]) == {"a_ours", "b_paper"} and len(table) == 5
    text = as_markdown(results)
    assert "## Trials" in text and "| a | 0.2000 | 0.3000 | 0.1000 | ours |" in text
    assert "trials" in [section.key for section in study_page(results).sections]


@pytest.mark.parametrize(("select", "chosen"), [("val/ndcg@10", "ours"), ("val/loss", "paper")])
def test_less_of_a_loss_is_better(tmp_path: Path, select: str, chosen: str) -> None:
    made = tried(tmp_path, select, {("a", "paper", 0): 0.2, ("a", "ours", 0): 0.3})
    assert read_results(made.plan(), method=QUICK).trials[0].chosen == chosen


def test_an_axis_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text("axes: {recipe: {a: {}}}\nreport: {best_of: recipes}")
    with pytest.raises(RecsysLabError, match=r"unknown axis in report.best_of 'recipes'. Did you mean 'recipe'"):
        read_study(path)


def test_a_published_number_may_name_a_system(tmp_path: Path) -> None:
    """It stands beside the trial that was chosen; a label with a trial stays that trial alone."""
    made = tried(tmp_path, "val/ndcg@10", {("a", "paper", 0): 0.2, ("a", "ours", 0): 0.3})
    plan = made.plan()
    published = [{"variant": name, "ndcg@10": 0.5} for name in ("a", "a_ours", "a_paper")]
    report = {**plan.study.report, "published": published}
    results = read_results(replace(plan, study=replace(plan.study, report=report)), method=QUICK)
    ours = ndcg(ranks_of(0.2, 0), 10).mean()
    assert [one.ours for one in results.published] == [pytest.approx(ours), pytest.approx(ours), None]
    report = {**plan.study.report, "published": [{"variant": "c", "ndcg@10": 0.5}]}
    with pytest.raises(RecsysLabError, match="no variant 'c'. There are: a_paper, a_ours, a"):
        read_results(replace(plan, study=replace(plan.study, report=report)), method=QUICK)
