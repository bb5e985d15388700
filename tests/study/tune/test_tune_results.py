"""Searches read back: the best, the curves, the table, and the found settings as a study of their own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from tuned_study import FlatResolver, make_study, numbers, results_of, searches_of

from recsys_lab.report.escapes import as_json
from recsys_lab.runs.finished import find_runs
from recsys_lab.study.plan import Study, make_plan, read_study
from recsys_lab.study.tune.best import write_best, write_tuning
from recsys_lab.study.tune.expected import expected_best
from recsys_lab.study.tune.results import Trial, read_tuning, write_trial
from recsys_lab.study.tune.tune_text import render, tuning_record
from recsys_lab.words import RecsysLabError

Trials = dict[str, list[tuple[str, float | None]]]
TWO_AXES: dict[str, Any] = {"encoder": {"a": {"model": "A"}, "b": {"model": "B"}}, "data.max_length": [10, 20]}


def tuned(study: Study, trials: Trials) -> Study:
    """As if searches had run: label -> state and value of each trial; trial k took k + 1 seconds at dropout k / 10."""
    searches, settings = searches_of(study)
    write_tuning(study, settings, searches)
    for search in searches:
        for number, (state, value) in enumerate(trials[search.label]):
            tried = {"model.dropout": number / 10} if number else {}
            error, folder = "why" if state == "failed" else "", search.trial_folder(number)
            write_trial(Trial(number, tried, state, value, 3, number + 1.0, error, folder=folder))
    return study


UNLIKE: Trials = {
    "a": [("complete", 0.30), ("complete", 0.31), ("failed", None), ("complete", 0.32)],
    "b": [("complete", 0.10), ("pruned", 0.60), ("complete", 0.50), ("complete", 0.50)],
}


def best_of(study: Study) -> Path:
    searches, settings = searches_of(study)
    file = write_best(study, settings, searches, FlatResolver())
    assert file is not None
    return file


def test_the_best_is_the_first_of_the_best_that_came_to_their_own_end(tmp_path: Path) -> None:
    first, second = results_of(tuned(make_study(tmp_path), UNLIKE)).searches
    assert first.best is not None and (first.best.number, first.best.value) == (3, 0.32)
    assert second.best is not None and second.best.number == 2  # neither the pruned 0.6 nor the equal one after it
    assert first.best.folder == first.folder / "trial3" and first.best.settings == {"model.dropout": 0.3}
    assert second.default is not None and second.default.value == 0.1
    assert (second.count("pruned"), second.seconds) == (1, 10.0)


def test_less_can_be_better(tmp_path: Path) -> None:
    study = tuned(make_study(tmp_path, select="val/loss"), UNLIKE)
    first = results_of(study).searches[0]
    assert first.mode == "min" and first.best is not None and first.best.number == 0
    assert first.curve[-1].expected == pytest.approx(0.30) and first.curve[0].expected == pytest.approx(1.25 / 4)


def test_expected_best_of_each_search_and_no_winner(tmp_path: Path) -> None:
    trials = {"a": [("complete", 0.3)] * 4, "b": [("complete", v) for v in (0.1, 0.1, 0.1, 0.8)]}
    study = tuned(make_study(tmp_path), trials)
    results = results_of(study)
    assert results.searches[1].curve == expected_best([0.1, 0.1, 0.1, 0.8])
    assert "each trial is one training" in render(results) and "lead" not in render(results)


def test_searches_on_unlike_data_are_not_compared(tmp_path: Path) -> None:
    axes = {"data": {"a": {"data": {"dataset": "one"}}, "b": {"data": {"dataset": "two"}}}}
    results = results_of(tuned(make_study(tmp_path, axes=axes), UNLIKE))
    assert [[search.label for search in group] for group in results.comparable()] == [["a"], ["b"]]


def test_the_table_shows_what_was_spent_and_found(tmp_path: Path) -> None:
    text = render(results_of(tuned(make_study(tmp_path), UNLIKE)))
    lines = text.splitlines()
    assert "s: val/ndcg@10 on the validation part, 4 trials for each of 2 searches (sampler tpe, pruner none)" in lines
    assert [line.split() for line in lines if line.startswith(("a  ", "b  "))] == [
        ["a", "4", "3", "0", "1", "10", "0.3000", "0.3200", "3"],
        ["b", "4", "3", "1", "0", "10", "0.1000", "0.5000", "2"],
    ]
    assert "a: model.dropout 0.3" in lines and "b: model.dropout 0.2" in lines


def test_programs_get_every_trial(tmp_path: Path) -> None:
    record = tuning_record(results_of(tuned(make_study(tmp_path), UNLIKE)))
    first, second = json.loads(as_json(record))["searches"]
    assert (first["search"], first["best"], second["best"]) == ("a", 3, 2)
    assert [trial["number"] for trial in first["trials"]] == [0, 1, 2, 3]
    assert first["trials"][3]["settings"] == {"model.dropout": 0.3} and len(first["expected_best"]) == 4


def test_the_found_settings_are_a_study_with_the_same_axes(tmp_path: Path) -> None:
    exclude = [{"encoder": "b", "data.max_length": 20}]
    study = make_study(tmp_path, {"axis": "encoder"}, axes=TWO_AXES, exclude=exclude, variants={"own": {"model": "C"}})
    file = best_of(tuned(study, {**UNLIKE, "own": [("complete", 0.2)]}))
    plan = make_plan(read_study(file, study.root), FlatResolver())
    found = {variant.label: variant for variant in plan.variants}
    assert list(found) == ["a_max_length=10", "a_max_length=20", "b_max_length=10", "own"]
    assert found["a_max_length=20"].values == {"encoder": "a", "data.max_length": "20"}
    assert found["a_max_length=20"].settings["model.dropout"] == 0.3  # found for the encoder, not for the length
    assert found["a_max_length=20"].settings["data.max_length"] == 20 and found["own"].settings["model"] == "C"
    assert "model.dropout" not in found["own"].settings
    assert plan.study.name == "s-tuned" and {run.seed for run in plan.runs} == {3, 4}
    config = yaml.safe_load((file.parent / "best" / "b_max_length=10.yaml").read_text())
    assert config == found["b_max_length=10"].settings and config["model.dropout"] == 0.2


def test_a_search_without_a_complete_trial_is_left_out(tmp_path: Path) -> None:
    study = tuned(make_study(tmp_path), {"a": [("complete", 0.3)], "b": [("failed", None)]})
    plan = make_plan(read_study(best_of(study), study.root), FlatResolver())
    assert [variant.label for variant in plan.variants] == ["a"]
    nothing = make_study(tmp_path, name="nothing")
    searches, settings = searches_of(tuned(nothing, {"a": [], "b": []}))
    assert write_best(nothing, settings, searches, FlatResolver()) is None


def test_seeds_of_a_variant_stay_its_own(tmp_path: Path) -> None:
    axes = {"encoder": {"a": {"model": "A", "seeds": [9]}, "b": {"model": "B"}}}
    study = tuned(make_study(tmp_path, axes=axes), UNLIKE)
    plan = make_plan(read_study(best_of(study), study.root), FlatResolver())
    assert [variant.seeds for variant in plan.variants] == [(9,), (3, 4)]


def test_trials_are_no_runs_of_the_study(tmp_path: Path) -> None:
    study = tuned(make_study(tmp_path), UNLIKE)
    trials = list((study.folder / "tune").glob("*/trial*"))
    for folder in trials:
        (folder / "manifest.json").write_text(json.dumps({"stopped_by": "max_epochs"}))
    own = study.folder / "tune" / "seed0"  # a variant that somebody named so
    own.mkdir()
    (own / "manifest.json").write_text(json.dumps({"stopped_by": "max_epochs"}))
    runs, problems = find_runs([study.folder])
    assert not runs and len(problems) == 1 and str(own) in problems[0]
    assert len(find_runs([trials[0]])[1]) == 1  # named by the user
    assert len(make_plan(study, FlatResolver()).runs) == 4 and numbers(study)[0] == [0, 1, 2, 3]


def test_no_tuning_is_none_and_a_damaged_one_an_error(tmp_path: Path) -> None:
    assert read_tuning(tmp_path) is None
    study = tuned(make_study(tmp_path), UNLIKE)
    (study.folder / "tune" / "tuning.json").write_text('{"study": "s"}')
    with pytest.raises(RecsysLabError, match="can't be read .KeyError"):
        read_tuning(study.folder)
