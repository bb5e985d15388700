"""Labels on the command line: fit, compare with the baselines of the task, verify, diagnose, studies and a predictor;
and next item and labels on one encoder."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import f1_score, log_loss
from small_data import made_events, prepared

from recsys_lab.cli import main
from recsys_lab.runs.finished import read_run
from recsys_lab.serve import Predictor
from recsys_lab.serve.labels import predict_labels
from recsys_lab.study.values import read_values, write_values
from recsys_lab.words import RecsysLabError

pytestmark = pytest.mark.slow  # five fits
SMALL = ["--model", "GRU4Rec", "--model.embedding_dim", "8", "--data.max_length", "6", "--trainer.accelerator", "cpu"]
SMALL += ["--trainer.max_epochs", "3", "--model.optimization.lr", "0.02", "--trainer.enable_progress_bar", "false"]
LABELS = ["--model.task", "SequenceLabels", "--model.task.field"]
BOTH = """[{class_path: recsys_lab.models.tasks.NextItem},
  {class_path: recsys_lab.models.tasks.SequenceLabels, init_args: {field: event_type}}]"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared set where the next item mostly tells the type, and runs with labels, with numbers, with both tasks."""
    folder = tmp_path_factory.mktemp("labels")
    kind = "type" + (pl.col("item_id") % 3).cast(pl.String)
    frame = made_events(num_users=40).with_columns(event_type=kind, seconds=pl.col("item_id") * 2.0)
    data = ["--data.dataset", str(prepared(folder / "shop", frame).path)]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for seed in ("0", "1"):
            run = ["--run.variant", "gru", "--seed_everything", seed]
            assert main(["fit", *data, *SMALL, *LABELS, "event_type", *run]) == 0
        assert main(["fit", *data, *SMALL, *LABELS, "seconds", "--run.folder", "runs/numbers"]) == 0
        both = ["--model.task", "MultiTask", "--model.task.tasks", BOTH, "--model.task.weights", "[1, 0.5]"]
        assert main(["fit", *data, *SMALL, *both, "--run.study", "both", "--run.variant", "multi"]) == 0
        assert main(["fit", *data, *SMALL, "--run.study", "both", "--run.variant", "alone"]) == 0
    return folder


@pytest.fixture
def here(shop: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(shop)
    return shop


def test_a_run_and_its_files(here: Path) -> None:
    run = read_run(here / "runs/shop/gru/seed0")
    assert "monitor: val/loss" in (run.folder / "config.yaml").read_text()
    assert run.evaluation["task"] == "SequenceLabels" and run.metric_names[0] == "log_loss"
    label, output = run.ranks["label"].to_numpy(), run.ranks["output"].to_numpy()
    p = np.exp(output - output.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    assert run.metrics["test/log_loss"] == pytest.approx(log_loss(label, p, labels=range(3)), abs=1e-6)
    f1 = f1_score(label, output.argmax(1), average="macro")
    assert run.metrics["test/macro_f1"] == pytest.approx(f1, abs=1e-9) == run.values("macro_f1").mean()
    assert {"test/f1_type0", "test/missing_label_share"} <= set(run.metrics)
    assert not any("ndcg@" in name for name in run.metrics)


def test_compare_takes_the_baselines_of_labels(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "runs/shop", "--wide", "--json"]) == 0
    rows = {row["variant"]: row for row in json.loads(capsys.readouterr().out)["rows"]}
    assert set(rows) == {"gru", "majority_label", "item_majority_label", "previous_label"}
    assert 1.0 < rows["majority_label"]["log_loss"] < 1.3  # three types, about as frequent: ln 3 is 1.0986
    assert list(rows)[0] == min(rows, key=lambda name: rows[name]["log_loss"])


def test_numbers(here: Path) -> None:
    run = read_run(here / "runs/numbers")
    assert run.metric_names == ("mse", "mae")
    error = (run.ranks["output"] - run.ranks["label"]).abs()
    assert run.metrics["test/mae"] == pytest.approx(error.mean())
    assert run.metrics["test/mse"] == pytest.approx(run.metrics["test/loss"]) == pytest.approx((error**2).mean())
    value = predict_labels(Predictor.load(run.folder), [[100, 101, 102], []])
    assert value["value"].is_null().to_list() == [False, True] and 180 < value["value"][0] < 280


def test_verify(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "runs/shop/gru/seed1"]) == 0
    assert "metrics.json re-scored" in capsys.readouterr().out


def test_what_a_study_keeps(here: Path, tmp_path: Path) -> None:
    run = read_run(here / "runs/shop/gru/seed0")
    write_values(run, tmp_path / "kept.parquet", "val/loss", "id", 0)
    kept = read_values(tmp_path / "kept.parquet")
    assert kept.targets_hash == run.targets_hash
    for metric in run.metric_names:
        assert kept.values(metric).mean() == pytest.approx(run.values(metric).mean(), rel=1e-6)


def test_calibration(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diagnose", "calibration", "runs/shop/gru/seed0"]) == 0
    found = json.loads((here / "runs/shop/gru/seed0/calibration/calibration.json").read_text())
    run = read_run(here / "runs/shop/gru/seed0")
    assert sum(found["bins"]["count"]) == run.ranks.height
    assert found["error"] == pytest.approx(run.metrics["test/calibration_error"], abs=1e-6)
    assert re.match(r"(Yes|No)\b.*: the first label is called [\d.]+ % likely", capsys.readouterr().out)


def test_a_predictor_gives_the_probabilities_of_the_test(here: Path) -> None:
    predictor, run = Predictor.load(here / "runs/shop/gru/seed0"), read_run(here / "runs/shop/gru/seed0")
    data = predictor.loaded.manifest["system"]["data"]
    frame = made_events(num_users=40)
    user = run.ranks["user_id"][5]
    items = frame.filter(pl.col("user_id") == user)["item_id"].to_list()
    kinds = [f"type{item % 3}" for item in items]
    found = predict_labels(predictor, [items[:-1]], fields={"event_type": [kinds[:-1]]})
    assert found["probability"].sum() == pytest.approx(1) and found["probability"].is_sorted(descending=True)
    output = np.array(run.ranks["output"][5])
    expected = np.exp(output) / np.exp(output).sum()
    got = dict(zip(found["label"], found["probability"], strict=True))
    assert [got[f"type{c}"] for c in range(3)] == pytest.approx(expected.tolist(), abs=1e-5)
    assert "labels" in data
    with pytest.raises(RecsysLabError, match="predicts event_type; name one of them"):
        predict_labels(predictor, [items], field="price")


def test_both_tasks_are_reported(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = read_run(here / "runs/both/multi/seed0")
    assert {"test/ndcg@10", "test/log_loss", "test/macro_f1"} <= set(run.metrics)
    assert run.manifest["loss"] == "CrossEntropy"
    head = (run.folder / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {"train/loss_next_item", "train/loss_event_type"} <= set(head)
    assert main(["compare", "runs/both", "--no_baselines", "--json"]) == 0
    tables = json.loads(capsys.readouterr().out)
    assert {row["variant"] for row in tables["rows"]} == {"multi", "alone"}
    assert [[row["variant"] for row in one["rows"]] for one in tables["also"]] == [["multi"]]
    assert (
        main(["compare", "runs/both/multi", "runs/shop/gru", "--metrics", "log_loss", "--no_baselines", "--json"]) == 0
    )
    rows = {row["variant"]: row for row in json.loads(capsys.readouterr().out)["rows"]}
    assert rows["multi"]["log_loss"] == pytest.approx(run.metrics["test/log_loss"])
    assert predict_labels(Predictor.load(run.folder), [[100, 101]])["probability"].sum() == pytest.approx(1)
    assert main(["compare", "runs/both/multi", "--metrics", "log_loss", "--json"]) == 0
    assert "previous_label" in {row["variant"] for row in json.loads(capsys.readouterr().out)["rows"]}
    assert main(["predict", "runs/both/multi/seed0"]) == 0
    assert main(["verify", "runs/both/multi/seed0"]) == 0


@pytest.mark.parametrize("command", ["predict", "recommend --history 1", "export --output out", "diagnose shuffle"])
def test_what_needs_lists_is_refused(command: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, *rest = command.replace("diagnose shuffle", "diagnose_shuffle").split()
    assert main([*first.split("_"), "runs/shop/gru/seed1", *rest]) == 2
    assert "ranks no items" in capsys.readouterr().err and not (here / "out").exists()
