"""`fit --run.retrain true`: the second training is what it would be by hand, and a run that was stopped goes on."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import polars as pl
import pytest
import torch
import yaml
from small_data import quiet_trainer

from recsys_lab.cli import main
from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.data.split.leave_one_out import GlobalTemporal
from recsys_lab.models import Optimization, SASRec
from recsys_lab.runs.saved import open_saved_run

QUIET = ["--trainer.accelerator", "cpu", "--trainer.devices", "1", "--trainer.enable_progress_bar", "false"]
QUIET += ["--trainer.enable_model_summary", "false"]
TINY = ["--model", "SASRec", "--model.embedding_dim", "8", "--model.num_layers", "1", "--data.max_length", "8"]
TINY += ["--model.optimization.schedule", "cosine", "--model.optimization.lr", "0.01", "--data.batch_size", "4"]
TINY += ["--trainer.max_epochs", "3", "--run.retrain", "true", *QUIET]
UNTIL_LATE = ["--checkpoint.monitor", "train/loss_epoch", "--checkpoint.mode", "min"]  # the best epoch is not the first
TEMPORAL = ["--data.split", "GlobalTemporal", "--data.split.quantile", "0.7", "--data.split.val_quantile", "0.7"]


def fit(data: Path, root: Path, *more: str) -> int:
    return main(["fit", *TINY, "--data.dataset", str(data), "--run.root", str(root), *more])


def run_in(root: Path) -> Path:
    return root / "small" / "sasrec" / "seed0"


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def weights(path: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = torch.load(path, weights_only=True)["state_dict"]
    return found


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def finished(small_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder that tests only read, or copy."""
    root = tmp_path_factory.mktemp("retrained")
    assert fit(small_folder, root, *TEMPORAL) == 0
    return run_in(root)


def test_the_folder_says_that_the_tested_model_is_the_retrained_one(finished: Path) -> None:
    assert sorted(p.name for p in (finished / "checkpoints").iterdir()) == ["best.ckpt", "first_fit.ckpt", "last.ckpt"]
    manifest, config = read(finished / "manifest.json"), yaml.safe_load((finished / "config.yaml").read_text())
    first = torch.load(finished / "checkpoints" / "first_fit.ckpt", weights_only=True)
    assert manifest["retrained"] is True and manifest["retrain_epochs"] == first["epoch"] + 1
    assert manifest["retrain_epochs"] == manifest["best_epoch"] + 1 and manifest["retrain_seconds"] > 0
    assert (manifest["stopped_by"], manifest["epochs"]) == ("max_epochs", 3), "of the first fit"
    assert manifest["command"].startswith("recsys-lab fit --model SASRec")
    assert manifest["evaluation"]["retrained"] is True and manifest["evaluation"]["val_targets"] > 0
    assert config["run"]["retrain"] is True and config["data"]["retrained"] is True
    with (finished / "metrics.csv").open(newline="") as file:
        epochs = list(csv.DictReader(file))
    metrics = read(finished / "metrics.json")
    assert metrics["val/ndcg@10"] == max(float(row["val/ndcg@10"]) for row in epochs)
    ranks = pl.read_parquet(finished / "ranks.parquet")
    assert not ranks["num_ties"].sum() and metrics["test/hit_rate@10"] == (ranks["rank"] <= 10).mean()


def test_the_second_training_is_what_it_is_by_hand(finished: Path, small_folder: Path, tmp_path: Path) -> None:
    epochs = read(finished / "manifest.json")["retrain_epochs"]
    L.seed_everything(0, workers=True)
    split = GlobalTemporal(0.7, 0.7)
    data = SequenceDataModule(str(small_folder), split=split, max_length=8, batch_size=4, retrained=True)
    model = SASRec(embedding_dim=8, num_layers=1, optimization=Optimization(lr=0.01, schedule="cosine"))
    trainer = quiet_trainer(tmp_path, max_epochs=epochs)
    trainer.fit(model, data)
    assert trainer.optimizers[0].param_groups[0]["lr"] < 1e-6, "the schedule ends with the second training"
    assert same(model.state_dict(), weights(finished / "checkpoints" / "best.ckpt"))
    result = trainer.test(model, data, verbose=False)[0]
    metrics = read(finished / "metrics.json")
    assert result["test/mrr@10"] == pytest.approx(metrics["test/mrr@10"], abs=1e-6)
    assert not same(model.state_dict(), weights(finished / "checkpoints" / "first_fit.ckpt"))


def test_opened_again_the_counts_are_of_what_the_tested_model_saw(finished: Path) -> None:
    saved = open_saved_run(finished)
    data, events = saved.data, saved.data.events
    first = SequenceDataModule(data.dataset, split=GlobalTemporal(0.7, 0.7))
    cut = np.sort(events.timestamps)[int(0.7 * len(events.timestamps))]
    before = events.item_ids[events.timestamps < cut]
    assert data.item_counts.tolist() == np.bincount(before, minlength=data.spec.num_rows).tolist()
    assert data.item_counts.sum() > first.item_counts.sum() and not len(data.split_result.val)
    assert np.array_equal(data.split_result.test.position, first.split_result.test.position)
    assert data.evaluation_settings()["split_hash"] == first.evaluation_settings()["split_hash"]
    saved.trainer(progress_bar=False).test(saved.model, data, verbose=False)
    assert saved.evaluation.last_metrics["test/auc"] == read(finished / "metrics.json")["test/auc"]


def test_test_and_validate_of_a_retrained_run(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {name: (finished / name).read_bytes() for name in ("config.yaml", "manifest.json", "ranks.parquet")}
    assert main(["test", str(finished)]) == 0
    metrics = read(finished / "metrics.json")
    again = read(finished / "test" / "metrics.json")
    assert again == {name: value for name, value in metrics.items() if name.startswith("test/")}
    assert read(finished / "test" / "manifest.json")["retrained"] is True
    assert main(["validate", str(finished)]) == 2
    error = capsys.readouterr().err
    assert "nothing to validate on" in error and "first_fit.ckpt" in error
    first_fit = ["--data.retrained", "false", "--ckpt_path", str(finished / "checkpoints" / "first_fit.ckpt")]
    assert main(["validate", str(finished), *first_fit]) == 0
    assert read(finished / "validate" / "metrics.json")["val/mrr@10"] == pytest.approx(metrics["val/mrr@10"], abs=1e-6)
    assert {name: (finished / name).read_bytes() for name in before} == before


def test_the_saved_configuration_does_both_trainings_again(finished: Path, tmp_path: Path) -> None:
    assert main(["fit", "--config", str(finished / "config.yaml"), "--run.root", str(tmp_path)]) == 0
    for name in ("best.ckpt", "first_fit.ckpt"):
        ours, theirs = (folder / "checkpoints" / name for folder in (run_in(tmp_path), finished))
        assert same(weights(ours), weights(theirs)), name


def test_a_stop_in_the_second_training(small_folder: Path, tmp_path: Path) -> None:
    """Ctrl-C leaves the first fit's run, which can be tested; `fit RUN` ends as if nothing had happened."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    stop = ["--trainer.callbacks", "poison.InterruptOnce", "--trainer.callbacks.marker"]
    assert fit(small_folder, whole, *UNTIL_LATE) == 0
    epochs = read(run_in(whole) / "manifest.json")["retrain_epochs"]
    assert epochs > 1, "one epoch can not be stopped half-way"
    assert fit(small_folder, parts, *UNTIL_LATE, *stop, str(tmp_path / "stopped")) == 130
    folder = run_in(parts)
    names = {path.name for path in (folder / "checkpoints").iterdir()}
    assert names == {"best.ckpt", "last.ckpt", "retrained.ckpt"} and not (folder / "ranks.parquet").exists()
    manifest = read(folder / "manifest.json")
    assert (manifest["stopped_by"], manifest["retrained"]) == ("max_epochs", False)
    assert same(weights(folder / "checkpoints/best.ckpt"), weights(run_in(whole) / "checkpoints/first_fit.ckpt"))
    assert main(["test", str(folder)]) == 0
    assert read(folder / "test" / "manifest.json")["evaluation"]["retrained"] is False
    assert main(["fit", str(folder)]) == 0
    assert same(weights(folder / "checkpoints/best.ckpt"), weights(run_in(whole) / "checkpoints/best.ckpt"))
    results = [read(root / "metrics.json") for root in (folder, run_in(whole))]
    assert results[0]["test/auc"] == results[1]["test/auc"]
    assert read(folder / "manifest.json")["retrained"] is True


def test_a_finished_run_is_tested_again_or_goes_on(finished: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(finished, run_in(tmp_path))
    before = weights(folder / "checkpoints" / "best.ckpt"), read(folder / "metrics.json")
    assert main(["fit", str(folder)]) == 0
    assert same(weights(folder / "checkpoints" / "best.ckpt"), before[0])
    assert read(folder / "metrics.json") == before[1]
    assert main(["fit", str(folder), "--trainer.max_epochs", "4"]) == 0
    manifest = read(folder / "manifest.json")
    assert manifest["epochs"] == 4 and manifest["retrain_epochs"] == manifest["best_epoch"] + 1
    first = torch.load(folder / "checkpoints" / "first_fit.ckpt", weights_only=True)
    assert first["epoch"] == manifest["best_epoch"]


@pytest.mark.parametrize(
    "refused",
    [["--trainer.max_epochs", "1"], ["--model.embedding_dim", "16"], ["--trainer.limit_train_batches", "99999"]],
)
def test_a_fit_that_is_refused_leaves_the_run_as_it_was(finished: Path, tmp_path: Path, refused: list[str]) -> None:
    """Also where Lightning is the one that refuses, as it does when the loaders are there already."""
    folder = shutil.copytree(finished, tmp_path / "run")
    before = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert main(["fit", str(folder), *refused]) == 2
    after = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert {path for path in before if after.get(path) != before[path]} == set()


def test_a_counted_model_counts_the_validation_part_too(small_folder: Path, tmp_path: Path) -> None:
    arguments = ["fit", "--model", "Popularity", "--data.dataset", str(small_folder), "--run.root", str(tmp_path)]
    assert main([*arguments, "--run.retrain", "true", *QUIET]) == 0
    saved = open_saved_run(tmp_path / "small" / "popularity" / "seed0")
    assert saved.manifest["stopped_by"] == "counted" and saved.manifest["retrain_epochs"] == 1
    events, last = saved.data.events, saved.data.events.offsets[1:] - 1
    evaluated = np.diff(events.offsets) >= 3
    training = np.delete(events.item_ids, last[evaluated])
    counts = torch.from_numpy(np.bincount(training, minlength=saved.data.spec.num_rows))
    assert torch.equal(saved.data.item_counts, counts)
    assert any(torch.equal(b.flatten().long(), counts) for b in saved.model.buffers() if b.numel() == len(counts))


def test_without_the_second_training_only_the_first_part_may_train(
    small_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit(small_folder, tmp_path, "--run.retrain", "false", "--data.retrained", "true") == 2
    assert "--run.retrain true" in capsys.readouterr().err and not run_in(tmp_path).exists()
