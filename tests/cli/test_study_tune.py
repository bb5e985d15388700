"""`recsys-lab study tune` on real fits of made data."""

from __future__ import annotations

import json
from pathlib import Path

import optuna
import pytest

from recsys_lab.cli import main

STUDY = """
name: tuned
base: {model: SASRec, model.embedding_dim: 8, model.num_layers: 1, data.max_length: 8}
tune:
  trials: 20
  space:
    model.optimization.lr: {low: 1e-3, high: 1e-1, log: true}
    model.loss: [CrossEntropy, BPR]
"""


@pytest.fixture
def study(tmp_path: Path) -> list[str]:
    (tmp_path / "study.yaml").write_text(STUDY)
    return [str(tmp_path), "--root", str(tmp_path / "runs"), "--data-dir", str(tmp_path / "data")]


def test_a_search_its_end_and_the_study_of_what_was_found(
    study: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    options = ["--fast", "--workers", "2", "--threads", "1"]
    assert main(["study", "tune", *study, *options]) == 0, capfd.readouterr().err
    out = capfd.readouterr().out
    place = tmp_path / "runs" / "tuned-fast" / "tune"
    assert f"the found settings are the study {place / 'best.yaml'}" in out
    records = sorted(place.glob("*/trial*/trial.json"))
    default, other = (json.loads(path.read_text()) for path in records)  # two trials in a smoke test
    assert default["state"] == other["state"] == "complete" and default["settings"] == {}
    assert set(other["settings"]) == {"model.optimization.lr", "model.loss"}
    backend = optuna.storages.journal.JournalFileBackend(str(place / "journal.log"))
    (own, _) = optuna.load_study(study_name=None, storage=optuna.storages.JournalStorage(backend)).trials
    assert own.params == {"model.optimization.lr": 1e-3, "model.loss": "CrossEntropy"}, "the defaults of the model"
    assert all(not (path.parent / "ranks.parquet").exists() for path in records), "a trial never looks at the test"
    assert all("test/" not in (path.parent / "metrics.json").read_text() for path in records)

    before = {path: path.stat().st_mtime_ns for path in place.rglob("*/run.yaml")}
    assert main(["study", "tune", *study, *options]) == 0
    assert {path: path.stat().st_mtime_ns for path in place.rglob("*/run.yaml")} == before
    assert main(["study", "tune", *study, "--fast", "--show"]) == 0
    assert "by trial" in capfd.readouterr().out
    plan = [
        "study",
        "plan",
        str(place / "best.yaml"),
        "--root",
        str(tmp_path / "runs"),
        "--data_dir",
        str(tmp_path / "data"),
    ]
    assert main(plan) == 0 and "1 run of 1 variant: 1 missing" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("more", "text"),
    [
        (["--trials", "0"], "--trials: must be at least 1, not 0"),
        (["--seconds", "9"], "unrecognized arguments: --seconds"),
        (["--show"], "was not tuned yet"),
    ],
)
def test_what_cant_be_meant_is_said(
    study: list[str], tmp_path: Path, more: list[str], text: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["study", "tune", *study, *more]) == 2
    assert text in capfd.readouterr().err and not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("model.embeding_dim: [8]", "tune.space.model.embeding_dim: 8 for base:"),
        ("model.dropout: {low: 0.0, high: 1.5}", "tune.space.model.dropout: 1.5 for base:"),
        ("model.num_layers: [1, some]", "tune.space.model.num_layers: 'some' for base:"),
    ],
)
def test_a_key_or_value_that_the_model_does_not_take_is_named_before_anything_runs(
    study: list[str], tmp_path: Path, key: str, text: str, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "study.yaml").write_text(STUDY + f"    {key}\n")
    assert main(["study", "tune", *study]) == 2
    assert text in capfd.readouterr().err and not (tmp_path / "runs").exists()
