"""Warnings of a study, each from runs that deserve it; facts of a block: calibration and audit; the answer."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
from made_study import QUICK, MadeStudy, ranks_of

from recsys_lab.study.pages.tables import calibration
from recsys_lab.study.plan import Plan
from recsys_lab.study.results import Caution, StudyResults, read_results


def study(tmp_path: Path, changes: dict[str, dict[str, Any]], seeds: int = 2) -> MadeStudy:
    """One variant for each key, with changes to its manifests."""
    made = MadeStudy(tmp_path, {"encoder": list(changes)})
    for i, (encoder, of) in enumerate(changes.items()):
        for seed in range(seeds):
            made.add({"encoder": encoder}, seed, ranks_of(i / 3, seed), **of)
    return made


def of_kind(results: StudyResults, kind: str) -> list[Caution]:
    return [caution for caution in results.cautions if caution.kind == kind]


def test_quiet_where_there_is_nothing_to_say(tmp_path: Path) -> None:
    facts = {"split": "global_temporal", "audit": {"file": "x", "same_data": True, "same_split": True}}
    results = read_results(study(tmp_path, {"b": {**facts, "stopped_by": "counted"}, "a": facts}).plan(), method=QUICK)
    assert [caution.kind for caution in results.cautions] == ["audit"]  # its file is not there


@pytest.mark.parametrize(
    ("stopped_by", "best_epoch", "is_cut"),
    [
        ("max_epochs", 19, True),
        ("max_epochs", 18, True),
        ("max_epochs", 17, False),
        ("max_time", 19, True),
        ("patience", 19, False),
        ("counted", 19, False),
        ("max_epochs", None, False),
    ],
)
def test_unconverged_runs(tmp_path: Path, stopped_by: str, best_epoch: int | None, is_cut: bool) -> None:
    plan = study(tmp_path, {"a": {"stopped_by": stopped_by, "best_epoch": best_epoch, "epochs": 20}, "b": {}}).plan()
    found = of_kind(read_results(plan, method=QUICK), "unconverged")
    assert bool(found) == is_cut
    assert all(
        "2 of 4 runs" in caution.text and caution.text.endswith("the order of the variants could change")
        for caution in found
    )


def test_caps_and_different_stop_reasons(tmp_path: Path) -> None:
    results = read_results(study(tmp_path, {"a": {"stopped_by": "max_time"}, "b": {}}).plan(), method=QUICK)
    assert "ended 2 of 4 runs: a" in of_kind(results, "cap")[0].text
    assert "patience: 2 (b); max_time: 2 (a)" in of_kind(results, "stop_reasons")[0].text


def test_commits_changes_ties_seeds_and_leaks(tmp_path: Path) -> None:
    changes: dict[str, dict[str, Any]] = {
        "a": {"commit": "aaaa", "tie_order": "item_id"},
        "b": {"dirty": True, "tie_order": "item_id"},
    }
    results = read_results(study(tmp_path, changes, seeds=1).plan(), method=QUICK)
    assert sorted(results.commits) == ["aaaa", "c0ffee"]
    assert "2 different commits" in of_kind(results, "commits")[0].text
    assert "1 of 2 runs were made with changes" in of_kind(results, "dirty")[0].text
    assert "tie_order item_id" in of_kind(results, "ties")[0].text
    assert of_kind(results, "single_seed") and of_kind(results, "leaky")
    assert "not tested over seeds, because there is one seed" in results.answer.sentence
    assert (
        of_kind(results, "single_seed")[0].text
        == "these have one seed, so they were not tested over seeds: all trained variants"
    )


def test_refusals_of_the_plan_are_warnings(tmp_path: Path) -> None:
    plan = study(tmp_path, {"a": {}, "b": {}}).plan()
    results = read_results(Plan(plan.study, plan.variants, plan.runs, ["x: made on other data"]), method=QUICK)
    assert of_kind(results, "data")[0] == Caution("data", "x: made on other data")


def test_what_blocks_share_is_said_once(tmp_path: Path) -> None:
    made = MadeStudy(tmp_path, {"data": ["one", "two"], "encoder": ["a", "b"]})
    for data in ("one", "two"):
        for encoder in ("a", "b"):
            changes = {"dataset": data, "data_hash": data}
            made.add({"data": data, "encoder": encoder}, 0, ranks_of(0.1), **changes)
    (leaky,) = of_kind(read_results(made.plan(), method=QUICK), "leaky")
    assert leaky.text.startswith("one · leave_one_out (leaky) and two · leave_one_out (leaky): ") and not leaky.block


def test_no_difference_is_said_with_what_could_have_been_seen(tmp_path: Path) -> None:
    made = MadeStudy(tmp_path, {"encoder": ["a", "b"]})
    for encoder in ("a", "b"):
        for seed in (0, 1):
            made.add({"encoder": encoder}, seed, ranks_of(0.0, seed + 7 * (encoder == "b"), noise=0.8))
    results = read_results(made.plan(), method=QUICK)
    (effect,) = [effect for effect in results.blocks[0].effects if effect.metric == "ndcg"]
    assert not effect.is_significant(0.05)
    assert results.answer.sentence.startswith("The choice of encoder makes no significant difference; the largest, ")
    assert f"[{-abs(effect.high) if effect.difference < 0 else effect.low:+.4f}, " in results.answer.sentence
    assert f"The test finds a difference of {effect.detectable:.4f} with 80 % power" in results.answer.findings[0]


def test_many_that_win_and_many_without_seeds_are_said_in_short_sentences(tmp_path: Path) -> None:
    variants = [f"{size} · {kind}" for size in ("large", "small", "one") for kind in "abcd"]
    made = MadeStudy(tmp_path, {})
    for number, label in enumerate(variants):
        for seed in (0, 1, 2) if number < 8 else (0,):
            made.add({}, seed, ranks_of(1.5 if number < 4 else 0.0, seed), label, stopped_by="max_time")
    results = read_results(made.plan(), method=QUICK)
    said = [*results.answer.findings, *results.multiplicity.split(". "), *(one.text for one in results.cautions)]
    (winners,) = (text for text in said if "more variants are significantly better than others" in text)
    assert "2 more variants are" in winners and "because there is one seed: " in winners and "and 2 more. " in winners
    lengths = {part: len(re.findall(r"\S*\w\S*", part)) for text in said for part in text.split(". ")}
    assert max(lengths.values()) <= 35, max(lengths, key=lambda part: lengths[part])


def test_without_axes_the_answer_is_of_variants(tmp_path: Path) -> None:
    made = MadeStudy(tmp_path, {})
    for label, skill in (("narrow", 0.0), ("wide", 1.5)):
        for seed in (0, 1, 2):
            made.add({}, seed, ranks_of(skill, seed), label)
    results = read_results(made.plan(), method=QUICK)
    assert results.answer.sentence.startswith("wide is significantly better than narrow: +0.")
    assert [line.name for line in results.blocks[0].lines] == ["wide", "narrow"] and not results.blocks[0].effects


def test_calibration_is_the_mean_over_the_seeds_that_were_measured(tmp_path: Path) -> None:
    made = study(tmp_path, {"a": {}, "b": {}}, seeds=2)
    for run, nll in zip([run for run in made.runs if run.variant.label == "a"], (5.0, 6.0), strict=True):
        (run.folder / "metrics.json").write_text(json.dumps({"test/nll": nll, "test/ece": 0.25}))
    table = calibration(read_results(made.plan(), method=QUICK).blocks[0])
    assert [[cell.text for cell in row] for row in table.cells] == [["a", "5.5000", "-", "0.2500", "-"]]


def test_the_audit_is_the_one_that_the_runs_name(tmp_path: Path) -> None:
    file = tmp_path / "audit.json"
    audit = {"dataset": {"data_hash": "d1"}, "split": {"split_hash": "s1"}, "checks": {}}
    file.write_text(json.dumps(audit))
    entry = {"file": str(file), "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
    plan = study(tmp_path / "runs", {"a": {"audit": entry | {"same_data": True, "same_split": True}}, "b": {}}).plan()
    found = read_results(plan, method=QUICK).blocks[0].audit
    assert found.content == audit and not found.note
    file.write_text(json.dumps(audit | {"checks": {"new": 1}}))
    found = read_results(plan, method=QUICK).blocks[0].audit
    assert found.content and found.content["checks"] == {"new": 1}
    file.write_text(json.dumps(audit | {"split": {"split_hash": "s2"}}))
    found = read_results(plan, method=QUICK).blocks[0].audit
    assert found.content is None and "no audit of this data and this split" in found.note


def test_an_audit_of_another_split_is_not_shown_but_the_right_one_beside_it(tmp_path: Path) -> None:
    entry = {"file": str(tmp_path / "audit.json"), "sha256": "x", "same_data": True, "same_split": False}
    plan = study(tmp_path / "runs", {"a": {"audit": entry}, "b": {"audit": entry}}).plan()
    found = read_results(plan, method=QUICK).blocks[0].audit
    assert found.content is None and "no audit of this data and this split" in found.note
    audit = {"dataset": {"data_hash": "d1"}, "split": {"split_hash": "s1"}, "checks": {}}
    (tmp_path / "audit-s1.json").write_text(json.dumps(audit))
    found = read_results(plan, method=QUICK).blocks[0].audit
    assert found.content == audit and found.file.endswith("audit-s1.json")
