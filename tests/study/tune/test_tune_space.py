"""The `tune` section of a study file: what it may hold, and which mistakes it names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tuned_study import FlatResolver, make_study, searches_of

from recsys_lab.study.tune.searches import trial_config
from recsys_lab.study.tune.space import Choices, Range, as_in, read_space, value_in
from recsys_lab.study.tune.tune_settings import read_settings
from recsys_lab.words import RecsysLabError


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ({"low": 1, "high": 4}, Range(1, 4)),
        ({"low": 0, "high": 0.5}, Range(0, 0.5)),
        ({"low": "1e-4", "high": "1e-2", "log": True}, Range(1e-4, 1e-2, log=True)),  # YAML reads 1e-4 as a text
        ({"low": 8, "high": 64, "step": 8}, Range(8, 64, step=8)),
        ({"low": 0, "high": 1, "step": 0.25}, Range(0.0, 1.0, step=0.25)),
        ({"choices": ["BCE", None, True]}, Choices(("BCE", None, True))),
        ([32, 64], Choices((32, 64))),
        (None, None),
    ],
)
def test_what_a_space_means(written: Any, meant: Any) -> None:
    assert read_space({"loss": written}, "tune.space", Path()) == {"model.loss": meant}  # a short name written out


def test_whole_numbers_are_searched_when_both_ends_are_whole() -> None:
    assert Range(1, 4).is_whole and not Range(1, 4.0).is_whole and not Range(0.0, 1.0, step=0.25).is_whole


@pytest.mark.parametrize(
    ("space", "text"),
    [
        ({"model.dropout": {"low": 0.5, "high": 0.5}}, "tune.space.model.dropout: low 0.5 must be below high 0.5"),
        ({"model.dropout": {"low": 0.1}}, "tune.space.model.dropout: needs both low and high, or choices"),
        ({"model.dropout": {"low": "some", "high": 1}}, "tune.space.model.dropout.low: must be a number, got 'some'"),
        ({"model.dropout": {"low": True, "high": 2}}, "tune.space.model.dropout.low: must be a number, got True"),
        ({"model.dropout": {"low": 0.0, "high": 1.0, "log": True}}, "low must be above 0 on a log scale"),
        ({"model.dropout": {"low": 0.1, "high": 1.0, "log": "yes"}}, "tune.space.model.dropout.log: must be true or"),
        ({"model.dropout": {"low": 1, "high": 8, "step": 2, "log": True}}, "step: must be above 0, and can't go with"),
        (
            {"model.dropout": {"low": 0.1, "high": 1.0, "lgo": True}},
            "tune.space.model.dropout: unknown lgo; known: low",
        ),
        ({"model.dropout": {"choices": []}}, "tune.space.model.dropout.choices: must be a list with at least one"),
        ({"model.dropout": {"choices": [1, 1]}}, "tune.space.model.dropout.choices: holds a value twice"),
        ({"model.dropout": {"choices": [1], "low": 0}}, "tune.space.model.dropout: choices stand alone"),
        ({"model.dropout": 0.3}, "tune.space.model.dropout: must be {low: .., high: ..} or {choices: [..]}, got 0.3"),
        ({"config": ["a.yaml"]}, "tune.space.config: a file can't be searched"),
        (
            {"data.split": ["LeaveOneOut", "GlobalTemporal"]},
            "tune.space.data.split: can't be searched: data.split says",
        ),
        ({"evaluation.ties": ["expected"]}, "evaluation says what is measured"),
        ({"run.retrain": [True]}, "tune.space.run.retrain: can't be searched: run is set by the study"),
        ({"encoder": [1], "seed": [1]}, "tune.space: seed can't be set here"),
        ([1], "tune.space: must be a mapping"),
    ],
)
def test_a_bad_space_is_named(tmp_path: Path, space: Any, text: str) -> None:
    with pytest.raises(RecsysLabError) as error:
        read_settings(make_study(tmp_path, {"space": space}))
    assert text in str(error.value) and "study.yaml" in str(error.value)


@pytest.mark.parametrize(
    ("tune", "text"),
    [
        ({"seconds": 60}, "tune: unknown 'seconds'. Known: axis, trials"),
        ({"trials": None}, "tune: has no budget; set trials"),
        ({"trials": 0}, "tune.trials: must be a whole number from 1 on, got 0"),
        ({"trails": 3}, "tune: unknown 'trails'. Did you mean 'trials'?"),
        ({"axis": "encoders"}, "tune.axis: unknown 'encoders'. Did you mean 'encoder'?"),
        ({"pruner": "medium"}, "tune.pruner: unknown 'medium'. Did you mean 'median'?"),
        ({"pruner": {"median": {"warmup": 3}}}, "tune.pruner.median: unknown 'warmup'"),
        ({"pruner": {"median": {"n_warmup_steps": -1}}}, "tune.pruner.median.n_warmup_steps: must be a whole number"),
        ({"sampler": "grid"}, "tune.sampler: unknown 'grid'"),
        ({"seed": -1}, "tune.seed: must be a whole number from 0 on"),
        (
            {"spaces": {"c": {"model.dropout": [1]}}},
            "tune.spaces.c: nothing that is compared has this name; known: 10, 20, a, a_max",
        ),
        ({"space": {"model.typo": [1, 2]}}, "tune.space.model.typo: 1 for a_max_length=10: model.typo can't be"),
        (
            {"space": {"model.x": {"low": -1, "high": 2}}},
            "tune.space.model.x: -1 for a_max_length=10: model.x can't be",
        ),
        ({"space": {"model.x": {"choices": [3, -1]}}}, "tune.space.model.x: -1 for a_max_length=10: model.x can't be"),
        ({"space": {"model": ["A", "B"]}}, "tune.space.model: is what the axis encoder varies"),
        (
            {"axis": "encoder", "space": {"data.max_length": [5, 6]}},
            "data.max_length: is what the axis data.max_length",
        ),
    ],
)
def test_a_bad_section_is_named(tmp_path: Path, tune: dict[str, Any], text: str) -> None:
    axes = {"encoder": {"a": {"model": "A"}, "b": {"model": "B"}}, "data.max_length": [10, 20]}
    with pytest.raises(RecsysLabError) as error:
        searches_of(make_study(tmp_path, tune, axes=axes))
    assert text in str(error.value) and "study.yaml" in str(error.value)


def test_a_study_without_the_section_says_what_it_needs(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    study.tune.clear()
    with pytest.raises(RecsysLabError, match="has no `tune` section"):
        read_settings(study)


def test_the_command_lines_budget_takes_the_place_of_the_files(tmp_path: Path) -> None:
    study = make_study(tmp_path, {"trials": 4})
    assert read_settings(study).trials == 4
    assert read_settings(study, trials=9).trials == 9


TWO_AXES: dict[str, Any] = {
    "encoder": {"a": {"model": "A"}, "b": {"model": "B"}},
    "data.max_length": [10, 20],
}


def test_without_an_axis_each_variant_is_searched(tmp_path: Path) -> None:
    searches, _ = searches_of(make_study(tmp_path, axes=TWO_AXES, variants={"own": {"model": "C"}}))
    assert [search.label for search in searches] == [
        "a_max_length=10", "a_max_length=20", "b_max_length=10", "b_max_length=20", "own",
    ]  # fmt: skip
    assert all(search.variants == (search.start,) and search.seed == 3 for search in searches)


def test_one_search_for_each_value_of_an_axis_is_for_all_its_variants(tmp_path: Path) -> None:
    study = make_study(tmp_path, {"axis": "encoder", "spaces": {"b": {"model.heads": [1, 2]}}}, axes=TWO_AXES)
    first, second = searches_of(study)[0]
    assert first.label == "a" and first.values == {"encoder": "a"}
    assert first.start.label == "a_max_length=10"
    assert [variant.label for variant in first.variants] == ["a_max_length=10", "a_max_length=20"]
    assert list(first.space) == ["model.dropout"] and list(second.space) == ["model.dropout", "model.heads"]
    assert first.folder == study.folder / "tune" / f"a-{first.identity[:8]}"
    by_both = searches_of(study, axes=["encoder", "data.max_length"])[0]
    assert [search.label for search in by_both][:2] == ["a_max_length=10", "a_max_length=20"]


def test_all_but_the_budget_makes_another_search(tmp_path: Path) -> None:
    def identity(tune: dict[str, Any], **more: Any) -> str:
        return searches_of(make_study(tmp_path, tune, **more))[0][0].identity

    same = [identity({}), identity({"trials": 50})]
    others = [
        identity({"space": {"model.dropout": {"low": 0.0, "high": 0.4}}}),
        identity({"sampler": "random"}),
        identity({"pruner": "median"}),
        identity({"seed": 1}),
        identity({}, seeds=[4]),
        identity({}, base={"model.width": 3}),
        identity({}, select="val/mrr@10"),
    ]
    assert len(set(same)) == 1 and len({*same, *others}) == 8


def test_a_trials_run_never_tests_and_lies_in_its_search(tmp_path: Path) -> None:
    study = make_study(tmp_path, base={"run.retrain": True, "run.test_after_fit": True})
    search = searches_of(study)[0][1]
    config = trial_config(study, search, 2, {"model.dropout": 0.25}, FlatResolver())
    assert config["model"] == "B" and config["model.dropout"] == 0.25 and config["seed_everything"] == 3
    assert config["run"]["folder"] == str(search.folder / "trial2")
    assert config["run"]["test_after_fit"] is False and config["run"]["retrain"] is False


def test_a_resolved_value_is_found_through_the_classes_arguments() -> None:
    config = {"model": {"class_path": "m.A", "init_args": {"loss": {"class_path": "l.BCE", "init_args": {"t": 0.5}}}}}
    assert value_in(config, "model.loss.t") == 0.5
    with pytest.raises(KeyError):
        value_in(config, "model.loss.k")


@pytest.mark.parametrize(
    ("one", "value", "found"),
    [
        (Choices(("BCE", "BPR")), {"class_path": "recsys_lab.losses.pairwise.BPR", "init_args": {}}, (True, "BPR")),
        (Choices((16, 32)), 64, (False, None)),
        (Range(1, 4), 4, (True, 4)),
        (Range(1, 4), 5, (False, None)),
        (Range(0.0, 0.5), 0.2, (True, 0.2)),
        (Range(0.0, 1.0, step=0.25), 0.3, (False, None)),
        (Range(0.0, 1.0, step=0.25), 0.75, (True, 0.75)),
        (Range(0.0, 0.5), "none", (False, None)),
    ],
)
def test_whether_a_space_holds_the_studys_own_value(one: Any, value: Any, found: Any) -> None:
    assert as_in(one, value) == found
