"""Counted baselines take part in `compare` without being asked for."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from own_process import told_without
from test_cli_runs import QUIET, TINY

from recsys_lab.cli import main
from recsys_lab.runs import baselines
from recsys_lab.runs.baselines import MANDATORY, baseline_name, study_folder
from recsys_lab.runs.finished import find_runs
from recsys_lab.runs.run_files import write_manifest
from recsys_lab.statistics.pairs import which_pairs

NAMES = {baseline_name(config) for config in MANDATORY}


@pytest.fixture(scope="module")
def made(small_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of one short run in `runs/small`, and its data in `data/small`. Tests work on a copy."""
    folder = tmp_path_factory.mktemp("made")
    data = shutil.copytree(small_folder, folder / "data" / "small")
    command = ["fit", *TINY, "--data.dataset", str(data), "--run.root", str(folder / "runs")]
    assert main([*command, "--trainer.max_epochs", "1"]) == 0
    return folder


@pytest.fixture(scope="module")
def counted(made: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], str]:
    """The same runs with the mandatory baselines, which a first `compare` has counted; what that found and said."""
    folder = shutil.copytree(made / "runs", tmp_path_factory.mktemp("counted") / "runs")
    found, said = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(found), contextlib.redirect_stderr(said):
        assert main(["compare", str(folder / "small"), "--format", "json"]) == 0
    return folder, json.loads(found.getvalue()), said.getvalue()


@pytest.fixture
def runs(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made / "runs", tmp_path / "runs")) / "small"


@pytest.fixture
def runs_and_baselines(counted: tuple[Path, dict[str, Any], str], tmp_path: Path) -> Path:
    return Path(shutil.copytree(counted[0], tmp_path / "runs")) / "small"


def table(capsys: pytest.CaptureFixture[str], *arguments: Any) -> tuple[dict[str, Any], str]:
    capsys.readouterr()
    assert main(["compare", *map(str, arguments), "--format", "json"]) == 0
    out, err = capsys.readouterr()
    return json.loads(out), err


def rows(found: dict[str, Any]) -> set[str]:
    return {row["variant"] for row in found["rows"]}


def test_all_mandatory_baselines_are_rows_and_are_counted_once(
    counted: tuple[Path, dict[str, Any], str], runs_and_baselines: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (_, found, err), runs = counted, runs_and_baselines
    assert len(NAMES) == 9 and rows(found) == NAMES | {"sasrec"}
    assert "counting the baselines" in err and "left out" not in err
    before, _, bar = err.partition("--no_baselines leaves them out")
    assert all(name in before and f"\ncounting {name}, " in bar for name in NAMES) and " items" in bar
    assert "\r" not in err, "in a file no bar is drawn"
    found, _ = table(capsys, runs)
    files = sorted(runs.rglob("baselines/*/*/seed0/ranks.parquet"))
    before = [file.stat().st_mtime_ns for file in files]
    again, err = table(capsys, runs / "sasrec" / "seed0")  # also where one run folder is named
    assert again["rows"] == found["rows"] and "counting" not in err
    assert len(files) == 9 and [file.stat().st_mtime_ns for file in files] == before


def test_the_best_of_them_is_tested_and_the_rest_are_not(
    runs_and_baselines: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = runs_and_baselines
    found, _ = table(capsys, runs, "--metrics", "ndcg")
    best = next(row["variant"] for row in found["rows"] if row["variant"] in NAMES)  # rows are sorted
    assert found["reference"] == found["rows"][0]["variant"]  # the best of all rows
    assert [{pair["a"], pair["b"]} for pair in found["pairs"]] == [{best, "sasrec"}]
    assert found["pairs"][0]["untested"] == "one seed" and found["pairs"][0]["p_value"] is None
    found, _ = table(capsys, runs, "--metrics", "ndcg", "--baseline", "ease")  # asked for: tested against the variants
    assert [{pair["a"], pair["b"]} for pair in found["pairs"]] == [{"sasrec", "ease"}]


def test_they_can_be_left_out(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found, _ = table(capsys, runs, "--no-baselines")
    assert rows(found) == {"sasrec"} and not (runs / "baselines").exists()


def test_what_takes_long_is_counted_where_it_is_asked_for(
    runs_and_baselines: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = runs_and_baselines
    shutil.rmtree(next(runs.rglob("baselines/*/ease")))
    monkeypatch.setattr(baselines, "OFFERED_UP_TO", {"ease": 5})
    found, err = table(capsys, runs, "--baselines", "popularity", "repeat_last")
    assert rows(found) == {"sasrec", "popularity", "repeat_last"} and "left out" not in err
    found, err = table(capsys, runs)
    assert rows(found) == NAMES - {"ease"} | {"sasrec"}
    assert re.search(r"left out: baseline ease: it takes about 0 s on \d+ items; --baselines all", err)
    found, err = table(capsys, runs, "--baselines", "all")
    every = NAMES | {"category_popularity", "transition_graph", "sasrec"}
    counted = r"\d+ items in about \d+ s of one core \(ease \d+, category_popularity \d+, transition_graph \d+\)"
    assert rows(found) == every and re.search(counted, err)
    found, err = table(capsys, runs)
    assert rows(found) == every and "left out" not in err, "once it is there it takes part"
    assert main(["compare", str(runs), "--baselines", "eas"]) == 2
    assert "unknown baseline 'eas'" in capsys.readouterr().err


@pytest.mark.process
def test_what_is_counted_is_compared_without_torch(runs_and_baselines: Path) -> None:
    again = told_without("torch", "compare", str(runs_and_baselines), "--baselines", "popularity", "repeat_last")
    assert "sasrec" in again and "repeat_last" in again


def test_the_estimated_time_grows_as_the_work_does() -> None:
    assert baselines.estimated_seconds("popularity", 12_000, 22_000) < 10
    small, large = (baselines.estimated_seconds("ease", items) for items in (10_000, 20_000))
    assert 20 < small < 60 and 7 < large / small < 8.1


def test_one_that_was_run_by_hand_is_no_second_row(
    made: Path, runs_and_baselines: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    by_hand = {
        "markov-backoff-0.0": ["Markov", "--model.backoff", "0.0"],
        "item_knn-history-last": ["ItemKNN", "--model.history", "last"],  # its other arguments at their defaults
        "another": ["EASE", "--model.regularization", "500"],
    }
    options = ["--data.dataset", str(made / "data" / "small"), "--data.max_length", "8", *QUIET]
    for name, model in by_hand.items():
        own = ["--run.root", str(runs_and_baselines.parent), "--run.variant", f"mine-{name}"]
        assert main(["fit", "--model", *model, *options, *own]) == 0
    found, _ = table(capsys, runs_and_baselines)
    assert rows(found) == NAMES - by_hand.keys() | {"sasrec", *(f"mine-{name}" for name in by_hand)}


def test_without_the_data_the_comparison_goes_on_and_says_so(
    made: Path, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (made / "data").rename(made / "gone")
    try:
        found, err = table(capsys, runs)
    finally:
        (made / "gone").rename(made / "data")
    assert rows(found) == {"sasrec"}
    assert "left out: counted baselines: the runs' data can't be opened" in err


def test_other_data_under_the_same_name_is_noticed(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = runs / "sasrec/seed0"
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["evaluation"]["data_hash"] = "other"
    write_manifest(folder, manifest)  # with its seal, as if the run had been of other data
    found, err = table(capsys, runs)
    assert rows(found) == {"sasrec"} and "has another data_hash now" in err


def test_folder_of_a_study(runs: Path) -> None:
    (run,) = find_runs([runs])[0]
    assert study_folder(run) == runs.resolve()


def test_pairs_with_automatic_rows() -> None:
    """Rows are sorted: the better one comes first."""
    assert which_pairs(5, None, [1, 3]) == [*combinations([0, 2, 4], 2), (0, 1), (1, 2), (1, 4)]
    assert which_pairs(4, 2, [0]) == [(1, 2), (2, 3), (0, 1), (0, 2), (0, 3)]
