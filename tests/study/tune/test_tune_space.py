"""The `tune` section of a study file: what it may hold, and which mistakes it names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from tuned_study import FlatResolver, make_study, searches_of

from recsys_lab.study.tune.searches import trial_config
from recsys_lab.study.tune.space import distribution, own_values, read_space
from recsys_lab.study.tune.tune_settings import read_settings
from recsys_lab.words import RecsysLabError


def a_range(low: float, high: float, log: bool = False, step: float | None = None) -> dict[str, Any]:
    return {"low": low, "high": high, "log": log, "step": step}


@pytest.mark.parametrize(
    ("written", "meant", "drawn"),
    [
        ({"low": 1, "high": 4}, a_range(1, 4), IntDistribution(1, 4)),
        ({"low": 0, "high": 0.5}, a_range(0, 0.5), FloatDistribution(0, 0.5)),
        # YAML reads 1e-4 as a text
        ({"low": "1e-4", "high": "1e-2", "log": True}, a_range(1e-4, 1e-2, True), FloatDistribution(1e-4, 1e-2, True)),
        ({"low": 8, "high": 64, "step": 8}, a_range(8, 64, step=8), IntDistribution(8, 64, step=8)),
        ({"low": 0, "high": 1, "step": 0.25}, a_range(0.0, 1.0, step=0.25), FloatDistribution(0, 1, step=0.25)),
        ({"choices": ["BCE", None]}, {"choices": ["BCE", None]}, CategoricalDistribution(["BCE", None])),
        ([32, [1, 2]], {"choices": [32, [1, 2]]}, CategoricalDistribution([32, "[1, 2]"])),
    ],
)
def test_what_a_space_means(written: Any, meant: Any, drawn: Any) -> None:
    """Whole numbers are searched when both ends are whole."""
    space = read_space({"loss": written}, "tune.space", Path())
    assert space == {"model.loss": meant}  # a short name written out
    assert distribution(meant) == drawn


def test_a_key_is_taken_out_with_null() -> None:
    assert read_space({"loss": None}, "tune.space", Path()) == {"model.loss": None}


@pytest.mark.parametrize(
    ("space", "text"),
    [
        ({"model.dropout": {"low": 0.5, "high": 0.5}}, "tune.space.model.dropout: low 0.5 must be below high 0.5"),
        ({"model.dropout": {"low": 0.1}}, "tune.space.model.dropout: needs both low and high, or choices"),
        ({"model.dropout": {"low": "some", "high": 1}}, "tune.space.model.dropout.low: must be a number, got 'some'"),
        ({"model.dropout": {"low": True, "high": 2}}, "tune.space.model.dropout.low: must be a number, got True"),
        ({"model.dropout": {"low": 0.0, "high": 1.0, "log": True}}, "tune.space.model.dropout: `low > 0` must hold"),
        ({"model.dropout": {"low": 0.1, "high": 1.0, "log": "yes"}}, "tune.space.model.dropout.log: must be true or"),
        (
            {"model.dropout": {"low": 1, "high": 8, "step": 2, "log": True}},
            "tune.space.model.dropout: Samplers and other",
        ),
        (
            {"model.dropout": {"low": 0.1, "high": 1.0, "lgo": True}},
            "unknown part of tune.space.model.dropout 'lgo'.",
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
        ({"seconds": 60}, "unknown key of tune 'seconds'. Known: axis, trials"),
        ({"trials": None}, "tune: has no budget; set trials"),
        ({"trials": 0}, "tune.trials: must be at least 1, not 0"),
        ({"trails": 3}, "unknown key of tune 'trails'. Did you mean 'trials'?"),
        ({"axis": "encoders"}, "unknown tune.axis 'encoders'. Did you mean 'encoder'?"),
        ({"pruner": "medium"}, "unknown tune.pruner 'medium'. Did you mean 'median'?"),
        ({"pruner": {"median": {"warmup": 3}}}, "unknown option of tune.pruner.median 'warmup'"),
        ({"pruner": {"median": {"n_warmup_steps": -1}}}, "tune.pruner.median.n_warmup_steps: must be a whole number"),
        ({"sampler": "grid"}, "tune.sampler: must be one of 'tpe', 'random', not 'grid'"),
        ({"seed": -1}, "tune.seed: must be at least 0, not -1"),
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
    both = {"axis": ["encoder", "data.max_length"]}
    by_both = searches_of(make_study(tmp_path, both, axes=TWO_AXES))[0]
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


@pytest.mark.parametrize(
    ("one", "value", "found"),
    [
        ({"choices": ["BCE", "BPR"]}, "recsys_lab.losses.pairwise.BPR", ["BPR"]),
        ({"choices": [{"class_path": "BPR"}]}, "recsys_lab.losses.BPR", ['{"class_path": "BPR"}']),
        ({"choices": [16, 32]}, 64, []),
        (a_range(1, 4), 4, [4]),
        (a_range(1, 4), 5, []),
        (a_range(1, 4), 2.5, []),
        (a_range(0.0, 0.5), 0.2, [0.2]),
        (a_range(0.0, 1.0, step=0.25), 0.3, []),
        (a_range(0.0, 1.0, step=0.25), 0.75, [0.75]),
        (a_range(0.0, 0.5), "none", []),
        (a_range(0.0, 0.5), None, []),
    ],
)  # fmt: skip
def test_whether_a_space_holds_the_studys_own_value(one: Any, value: Any, found: Any) -> None:
    key = "model.loss.class_path" if isinstance(value, str) else "model.loss"
    held = own_values({"model.loss": one, "model.other": {"choices": [None]}}, {key: value})
    assert held == ({"model.loss": found[0]} if found else {})
