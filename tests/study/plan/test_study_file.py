"""A study file read: what it may hold, what it makes of it, and which mistakes it names. No parser, no model."""

from __future__ import annotations

import json
import re
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from recsys_lab.study.plan import Variant, make_plan, read_study
from recsys_lab.study.plan.beginnings import with_beginnings
from recsys_lab.study.plan.opened import Selection, select
from recsys_lab.study.plan.plan_text import cost_line
from recsys_lab.study.plan.planned import seconds_of
from recsys_lab.study.plan.study_settings import Checked
from recsys_lab.study.plan.variants import make_variants
from recsys_lab.words import RecsysLabError


class FlatResolver:
    """Knows no parser: settings stay dotted, and their values are the identity."""

    def __init__(self, data_hash: str | None = None) -> None:
        self.hash = data_hash

    def compose(self, settings: list[dict[str, Any]], start: dict[str, Any] | None = None) -> dict[str, Any]:
        return {key: value for layer in [start or {}, *settings] for key, value in layer.items()}

    def check(self, configs: list[dict[str, Any]]) -> list[Checked]:
        return [Checked(sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()) for config in configs]

    def data_hash(self, config: dict[str, Any]) -> str | None:
        return self.hash


def write(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.yaml").write_text(text)
    return folder


def variants(folder: Path, text: str) -> list[Variant]:
    return make_variants(read_study(write(folder, text)), FlatResolver())


CHAIN = """
    axes:
      update: {scratch: {model: a}, warm: {model: a}, none: {model: a, trainer.max_epochs: 0}}
      day: {1: {data.dataset: one}, 2: {data.dataset: two}, 3: {data.dataset: three}}
    exclude: [{update: [warm, none], day: 1}]
    adjust:
      - {when: {update: warm, day: 3}, set: {warm_start: {day: 2}}}
      - {when: {update: warm, day: 2}, set: {warm_start: {update: scratch, day: 1}}}
      - {when: {update: none}, set: {warm_start: {update: scratch, day: 1}}}
    seeds: 2
    """


def test_a_run_begins_with_that_of_another_variant(tmp_path: Path) -> None:
    study = read_study(write(tmp_path, CHAIN), tmp_path / "runs")
    found = {v.label: v for v in make_variants(study, FlatResolver())}
    scratch, second, third = found["scratch_1"], found["warm_2"], found["warm_3"]
    assert second.begins_with == scratch.identity and third.begins_with == second.identity and not scratch.begins_with
    assert "warm_start" not in second.settings and second.identity != found["scratch_2"].identity
    runs = make_plan(study, FlatResolver()).runs
    places = {run.folder: place for place, run in enumerate(runs)}
    warm = next(run for run in runs if run.variant.label == "warm_3" and run.seed == 1)
    assert warm.config["warm_start"] == str(warm.begins_with) and warm.begins_with.parent.name == second.folder_name
    assert warm.begins_with.name == "seed1"
    assert all(places[run.begins_with] < place for place, run in enumerate(runs) if run.begins_with is not None)
    assert [run.seed for run in runs] == sorted(run.seed for run in runs)
    assert "warm_start" not in next(run for run in runs if run.variant.label == "scratch_1").config
    # another first model makes other ones of all that begin with it
    other = {v.label: v for v in variants(tmp_path, CHAIN.replace("scratch: {model: a}", "scratch: {model: b}"))}
    assert other["warm_3"].identity != third.identity
    # values that were kept are no weights: what a missing run begins with is trained once more
    assert with_beginnings([warm], runs) == [
        *(
            next(run for run in runs if run.variant.identity == one.identity and run.seed == 1)
            for one in (scratch, second)
        ),
        warm,
    ]


@pytest.mark.parametrize(
    ("beginning", "said"),
    [
        ("{day: 4}", "warm_start: there is no variant update warm, day 4"),
        ("{hour: 1}", "unknown axis in warm_start 'hour'"),
        ("{day: 3}", "variants begin with each other in a circle"),
    ],
)
def test_a_beginning_that_is_none(beginning: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(RecsysLabError, match=re.escape(said)):
        variants(tmp_path, CHAIN.replace("{day: 2}}}", beginning + "}}"))


def test_a_grid_is_every_combination_less_the_exclusions(tmp_path: Path) -> None:
    text = """
        axes:
          encoder: {a: {model: SASRec}, b: {model: GRU4Rec, model.num_layers: 2}}
          data.max_length: [10, 20, 30]
        exclude: [{encoder: a, data.max_length: [20, 30]}]
        variants: {wide: {model.embedding_dim: 128}}
        base: {model.dropout: 0.1}
        """
    found = variants(tmp_path, text)
    assert [v.label for v in found] == [
        "a_max_length=10",
        "b_max_length=10",
        "b_max_length=20",
        "b_max_length=30",
        "wide",
    ]
    assert found[1].values == {"encoder": "b", "data.max_length": "10"} and found[-1].values == {}
    assert found[3].settings["model"] == "GRU4Rec" and found[3].settings["data.max_length"] == 30
    assert all(v.settings["model.dropout"] == 0.1 for v in found)
    assert found[0].settings["early_stopping.monitor"] == found[0].settings["checkpoint.monitor"] == "val/ndcg@10"


def test_short_names_are_written_out(tmp_path: Path) -> None:
    found = variants(tmp_path, "axes: {loss: [BPR, GBCE]}\nbase: {negatives.num_negatives: 3}")
    assert [v.settings["model.loss"] for v in found] == ["BPR", "GBCE"]
    assert found[0].settings["model.negatives.num_negatives"] == 3


def test_seeds_of_a_value_take_the_place_of_the_studys(tmp_path: Path) -> None:
    text = "axes: {data: {small: {a: 1}, large: {a: 2, seeds: [7]}}}\nseeds: 3"
    plan = make_plan(read_study(write(tmp_path, text), tmp_path / "runs"), FlatResolver())
    # every variant once before any twice
    assert [(run.variant.label, run.seed) for run in plan.runs] == [
        ("small", 0),
        ("large", 7),
        ("small", 1),
        ("small", 2),
    ]


def test_adjust_sets_what_depends_on_several_axes(tmp_path: Path) -> None:
    text = """
        axes: {mode: {a: {m: 1}, b: {m: 2}}, size: {s: {}, l: {}}}
        base: {batch: 0}
        adjust: [{when: {mode: a}, set: {batch: 1}}, {when: {mode: [a, b], size: l}, set: {batch: 2, also: 3}}]
        variants: {alone: {x: 1}}
        """
    found = {v.label: v.settings for v in variants(tmp_path, text)}
    assert [found[label]["batch"] for label in ("a_s", "a_l", "b_s", "b_l", "alone")] == [1, 2, 0, 2, 0]
    assert "also" not in found["alone"] and found["b_l"]["also"] == 3


def test_adjust_may_give_some_variants_seeds_of_their_own(tmp_path: Path) -> None:
    text = """
        axes: {size: {s: {x: 1}, l: {x: 2}}, mode: {a: {y: 1}, b: {y: 2}}}
        adjust: [{when: {size: l, mode: b}, seeds: 3}, {when: {size: s, mode: b}, seeds: [4], set: {z: 5}}]
        """
    found = {v.label: v for v in variants(tmp_path, text)}
    assert {label: v.seeds for label, v in found.items()} == {"s_a": (0,), "s_b": (4,), "l_a": (0,), "l_b": (0, 1, 2)}
    assert [label for label, v in found.items() if "z" in v.settings] == ["s_b"]


def test_labels_are_file_names_and_differ(tmp_path: Path) -> None:
    found = variants(tmp_path, "axes: {e: {'a/b': {x: 1}, 'a b': {x: 2}, '..': {x: 3}, 'ü': {x: 4}}}")
    labels = [v.label for v in found]
    assert len(set(labels)) == 4 and all("/" not in label and not label.startswith(".") for label in labels)


def test_two_variants_alike_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(RecsysLabError, match="variants first and second have the same resolved configuration"):
        variants(tmp_path, "axes: {e: {first: {x: 1}, second: {x: 1}}}")


def test_the_smoke_test_covers_every_value_once(tmp_path: Path) -> None:
    text = "axes: {a: {p: {x: 1}, q: {x: 2}}, b: {r: {y: 1}, s: {y: 2}, t: {y: 3}}}\nfast: {z: 9}\nseeds: 5"
    study = read_study(write(tmp_path, text), fast=True)
    found = make_variants(study, FlatResolver())
    assert {v.values["a"] for v in found} == {"p", "q"} and {v.values["b"] for v in found} == {"r", "s", "t"}
    assert len(found) == 3 and all(v.seeds == (0,) for v in found)
    assert all(v.settings["z"] == 9 and v.settings["data.dataset"] == "synthetic" for v in found)
    assert study.name.endswith("-fast")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("axis: {}", "unknown key 'axis'. Did you mean 'axes'"),
        ("[]", "holds no study"),
        ("axes: {a: 3}", "axes.a: must be a list of values"),
        ("axes: {a: []}", "axes.a: has no value"),
        ("axes: {a: [1, 1]}", "axes.a: value 1 stands there twice"),
        ("axes: {a: {x: 3}}", "axes.a.x: must be a mapping"),
        (
            "axes: {encoder: {a: {}}}\nexclude: [{encodr: a}]",
            "unknown axis in exclude 'encodr'. Did you mean 'encoder'",
        ),
        ("axes: {e: {aa: {}}}\nexclude: [{e: ab}]", "unknown value of e in exclude 'ab'. Known: aa"),
        ("axes: {e: {a: {}}}\nadjust: [{when: {e: a}}]", "adjust: each entry must hold `when`"),
        ("axes: {e: {a: {}}}\nexclude: [{e: a}]", "every variant is excluded"),
        ("seeds: [0, 0]", "seeds: .* holds a seed twice"),
        ("seeds: many", "seeds: must be a list of whole numbers, or how many; got 'many'"),
        ("select: ndcg@10", "select: must be a validation metric"),
        ("base: {seed_everything: 3}", "seed_everything can't be set here"),
        ("base: {run.folder: x}", "run.folder can't be set here"),
        ("base: {config: nowhere.yaml}", "base.config: there is no file"),
        ("name: a/b", "name: 'a/b' is no folder name"),
        ("base: {a: [", "can't be read"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(RecsysLabError, match=message):
        variants(tmp_path, text)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RecsysLabError, match="there is no study file"):
        read_study(tmp_path / "nothing.yaml")


def finished(folder: Path, data_hash: str, seconds: float = 40.0) -> None:
    folder.mkdir(parents=True)
    manifest = {"stopped_by": "max_epochs", "wall_seconds": seconds, "evaluation": {"data_hash": data_hash}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "ranks.parquet").touch()


def test_runs_are_found_by_identity_under_another_label(tmp_path: Path) -> None:
    study = read_study(write(tmp_path, "axes: {e: {old: {x: 1}}}\nname: s"), tmp_path / "runs")
    run = make_plan(study, FlatResolver()).runs[0]
    assert run.state == "missing" and run.folder.parent.name == run.variant.folder_name
    finished(run.folder, "h")
    renamed = read_study(write(tmp_path, "axes: {e: {new: {x: 1}}}\nname: s"), tmp_path / "runs")
    again = make_plan(renamed, FlatResolver()).runs[0]
    assert again.variant.label == "new" and again.state == "finished" and again.folder == run.folder


def test_results_on_other_data_are_refused(tmp_path: Path) -> None:
    study = read_study(write(tmp_path, "axes: {x: [1, 2, 3]}\nname: s"), tmp_path / "runs")
    runs = make_plan(study, FlatResolver()).runs
    finished(runs[0].folder, "old")
    finished(runs[1].folder, "now")
    refusals = make_plan(study, FlatResolver("now")).refusals
    assert len(refusals) == 1 and "data_hash old" in refusals[0] and str(runs[0].folder) in refusals[0]
    assert len(make_plan(study, FlatResolver(None)).refusals) == 1  # among themselves, where nothing is prepared here


def test_time_is_estimated_from_the_nearest_runs(tmp_path: Path) -> None:
    text = "axes: {e: {a: {data: {dataset: d}}, b: {data: {dataset: o}, trainer: {max_time: '00:00:01:30'}}}}\nseeds: 2"
    study = read_study(write(tmp_path, text), tmp_path / "runs")
    runs = make_plan(study, FlatResolver()).runs
    assert [make_plan(study, FlatResolver()).estimates.of(run) for run in runs[:2]] == [None, 90.0]
    finished(runs[0].folder, "h", 40.0)
    plan = make_plan(study, FlatResolver())
    assert plan.estimates.of(plan.runs[2]) == 40.0  # the other seed of a
    assert plan.estimates.of(plan.runs[1]) == 40.0  # b: any finished run, below its cap


def test_an_encoder_takes_as_many_times_another_as_on_other_data(tmp_path: Path) -> None:
    text = """
axes:
  d: {small: {data: {dataset: small}}, large: {data: {dataset: large}}}
  e: {fast: {model: Fast}, slow: {model: Slow}, new: {model: New}}
name: s
"""
    study = read_study(write(tmp_path, text), tmp_path / "runs")
    runs = {run.variant.label: run for run in make_plan(study, FlatResolver()).runs}
    for label, seconds in (("small_fast", 10.0), ("small_slow", 70.0), ("large_fast", 100.0)):
        finished(runs[label].folder, label.partition("_")[0], seconds)
    plan = make_plan(study, FlatResolver())
    expected = {run.variant.label: plan.estimates.of(run) for run in plan.in_state("missing")}
    assert expected == {"large_slow": 700.0, "small_new": 40.0, "large_new": 100.0}  # new: the median of its data set


def test_a_run_that_was_begun_has_the_rest_to_do(tmp_path: Path) -> None:
    text = "axes: {x: [1]}\nbase: {trainer: {max_epochs: 4}}\nseeds: 3\nname: s"
    study = read_study(write(tmp_path, text), tmp_path / "runs")
    runs = make_plan(study, FlatResolver()).runs
    finished(runs[0].folder, "h", 40.0)
    for one, epochs in ((runs[1], 1), (runs[2], 3)):
        one.folder.mkdir(parents=True)
        (one.folder / "metrics.csv").write_text("epoch\n" + "0\n" * epochs)
        (one.folder / "manifest.json").write_text(json.dumps({"stopped_by": "interrupted"}))
    plan = make_plan(study, FlatResolver())
    assert [plan.estimates.left(run) for run in plan.in_state("interrupted")] == [30.0, 10.0]
    assert cost_line(plan, plan.runs).startswith("2 to run, about 40 s one after another")


def test_a_selection_of_nothing_says_what_there_is(tmp_path: Path) -> None:
    text = "axes: {data: [d1, d2], encoder: {" + ", ".join(f"e{i}: {{x: {i}}}" for i in range(12)) + "}}\nname: s"
    plan = make_plan(read_study(write(tmp_path, text), tmp_path / "runs"), FlatResolver())
    with pytest.raises(RecsysLabError) as told:
        select(plan, Selection(only=["E11"]))
    assert "Did you mean --only '*e11*'? It matches 2 variants. There are: d1_e0, " in str(told.value)
    assert str(told.value).endswith(" and 4 more, which `study plan` lists")
    with pytest.raises(RecsysLabError, match="--seeds 7: the chosen runs have 0; `seeds:` in the study file"):
        select(plan, Selection(only=["d1_e0"], seeds=[7]))


def test_max_time_in_seconds() -> None:
    assert seconds_of("01:02:03:04") == ((24 + 2) * 60 + 3) * 60 + 4
    assert seconds_of({"minutes": 2, "seconds": 5}) == 125 and seconds_of(None) is None
