"""Runs through the command line: what the run folder holds, running again, resuming, testing, failing."""

from __future__ import annotations

import csv
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
import yaml

from recsys_lab.cli import main
from recsys_lab.data.prepare.processed import ProcessedDataset
from recsys_lab.models import NextItemModule
from recsys_lab.ops.rank_metrics import ndcg
from recsys_lab.study.launch.job import heeding_interrupts

QUIET = ["--trainer.accelerator", "cpu", "--trainer.devices", "1", "--trainer.enable_progress_bar", "false"]
QUIET += ["--trainer.enable_model_summary", "false", "--trainer.num_sanity_val_steps", "0"]
TINY = ["--model", "SASRec", "--model.embedding_dim", "8", "--model.num_layers", "1", "--data.max_length", "8"]
TINY += ["--data.batch_size", "4", "--trainer.max_epochs", "2", *QUIET]


def fit(data: Path, root: Path, *more: str) -> int:
    return main(["fit", *TINY, "--data.dataset", str(data), "--run.root", str(root), *more])


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def learned(folder: Path) -> list[tuple[str, ...]]:
    """What a deterministic run repeats; times differ."""
    return [(r["epoch"], r["step"], r["train/loss"], r["val/ndcg@10"]) for r in rows(folder)]


@pytest.fixture(scope="module")
def finished(small_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder that tests only read."""
    root = tmp_path_factory.mktemp("runs")
    assert fit(small_folder, root) == 0
    return root / "small" / "sasrec" / "seed0"


def test_run_folder_is_complete(finished: Path) -> None:
    names = {str(p.relative_to(finished)) for p in finished.rglob("*") if p.is_file()}
    assert names == {
        *("config.yaml", "manifest.json", "metrics.csv", "metrics.json", "ranks.parquet", "values.parquet"),
        *("checkpoints/best.ckpt", "checkpoints/last.ckpt"),
    }


def test_manifest_says_what_a_claim_needs(finished: Path, small_folder: Path) -> None:
    manifest = read(finished / "manifest.json")
    assert manifest["stopped_by"] == "max_epochs" and manifest["epochs"] == 2
    assert (manifest["study"], manifest["variant"], manifest["seed"]) == ("small", "sasrec", 0)
    assert (manifest["model"], manifest["loss"]) == ("SASRec", "CrossEntropy")
    assert manifest["command"].startswith("recsys-lab fit --model SASRec")
    evaluation = manifest["evaluation"]
    assert evaluation["data_hash"] == ProcessedDataset.open(small_folder).data_hash
    assert {"vocabulary_hash", "split_hash", "exclude_seen", "ties", "cold_targets"} <= set(evaluation)
    model = NextItemModule.load_from_checkpoint(finished / "checkpoints" / "best.ckpt")
    assert manifest["parameters"] == sum(p.numel() for p in model.parameters())
    assert manifest["train_seconds"] > 0 and manifest["tokens_per_second"] > 0
    assert manifest["versions"]["torch"] == torch.__version__


def test_every_metric_can_be_recomputed_from_the_ranks(finished: Path) -> None:
    ranks = pl.read_parquet(finished / "ranks.parquet")
    greater, ties = ranks["num_greater"].to_numpy(), ranks["num_ties"].to_numpy()
    assert (ranks["rank"].to_numpy() == greater + 1 + ties / 2).all() and ranks["num_greater"].dtype == pl.Int64
    assert read(finished / "metrics.json")["test/ndcg@10"] == pytest.approx(ndcg(greater, ties, 10).mean(), abs=1e-12)


def test_metrics_per_epoch(finished: Path) -> None:
    assert [row["epoch"] for row in rows(finished)] == ["0", "1"]
    best = max(rows(finished), key=lambda row: float(row["val/ndcg@10"]))
    metrics = read(finished / "metrics.json")
    assert metrics["epoch"] == int(best["epoch"]) and metrics["val/ndcg@10"] == float(best["val/ndcg@10"])
    assert float(best["train/tokens_per_second"]) > 0 and float(best["train/loss"]) > 0


def test_the_saved_configuration_runs_again_with_the_same_result(finished: Path, tmp_path: Path) -> None:
    config = str(finished / "config.yaml")
    assert main(["fit", "--config", config, "--run.root", str(tmp_path)]) == 0
    again = tmp_path / "small" / "sasrec" / "seed0"
    assert learned(again) == learned(finished)
    assert read(again / "metrics.json")["test/mrr@10"] == read(finished / "metrics.json")["test/mrr@10"]


def test_another_seed_learns_something_else(finished: Path, small_folder: Path) -> None:
    root = finished.parent.parent.parent
    assert fit(small_folder, root, "--seed_everything", "1", "--run.test_after_fit", "false") == 0
    other = finished.parent / "seed1"
    assert learned(other) != learned(finished)
    assert not (other / "ranks.parquet").exists()


def test_a_finished_run_is_not_lost(
    finished: Path, small_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (finished / "metrics.csv").read_bytes()
    assert fit(small_folder, finished.parent.parent.parent) == 2
    assert "--run.overwrite true" in capsys.readouterr().err
    assert (finished / "metrics.csv").read_bytes() == before


def test_overwrite_replaces_a_run(finished: Path, small_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(finished, tmp_path / "small" / "sasrec" / "seed0")
    assert fit(small_folder, tmp_path, "--trainer.max_epochs", "1", "--run.overwrite", "true") == 0
    assert len(rows(folder)) == 1
    assert sorted(p.name for p in (folder / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]
    assert yaml.safe_load((folder / "config.yaml").read_text())["run"]["overwrite"] is False


def test_test_repeats_the_test_and_leaves_the_fit_alone(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {name: (finished / name).read_bytes() for name in ("config.yaml", "manifest.json", "metrics.json")}
    assert main(["test", str(finished)]) == 0
    shown = capsys.readouterr()
    assert (
        re.search(r"^test      ndcg@10 [\d.]+ \[[\d.]+, [\d.]+\] \(95 %\), hit_rate ", shown.err, re.M)
        and not shown.out
    )
    assert f"results   {finished / 'test'}, all in metrics.json\n" in shown.err
    assert {name: (finished / name).read_bytes() for name in before} == before
    fit_metrics, metrics = read(finished / "metrics.json"), read(finished / "test" / "metrics.json")
    assert metrics == {k: v for k, v in fit_metrics.items() if k.startswith("test/")}
    assert (
        read(finished / "test" / "manifest.json")["train_seconds"] == read(finished / "manifest.json")["train_seconds"]
    )
    assert main(["validate", str(finished)]) == 0
    validated = read(finished / "validate" / "metrics.json")["val/ndcg@10"]
    assert validated == pytest.approx(fit_metrics["val/ndcg@10"], abs=1e-6)
    assert f"val/ndcg@10 {validated:.4f}, val/mrr@10 " in capsys.readouterr().err


def test_predict_recommends_to_every_user(finished: Path, small_folder: Path) -> None:
    assert main(["predict", str(finished), "--recommendations.top_k", "3"]) == 0
    best = pl.read_parquet(finished / "predict" / "recommendations.parquet")
    data = ProcessedDataset.open(small_folder)
    assert best["user_id"].n_unique() == data.num_users and len(best) == 3 * data.num_users
    assert set(best["item_id"]) <= set(data.item_ids_raw)


def test_resuming_equals_never_having_stopped(finished: Path, small_folder: Path, tmp_path: Path) -> None:
    whole, folder = tmp_path / "whole", shutil.copytree(finished, tmp_path / "parts" / "small" / "sasrec" / "seed0")
    assert fit(small_folder, whole, "--trainer.max_epochs", "4") == 0
    assert main(["fit", str(folder), "--trainer.max_epochs", "4"]) == 0
    assert learned(folder) == learned(whole / "small" / "sasrec" / "seed0")
    assert read(folder / "manifest.json")["epochs"] == 4


def test_patience_is_named(small_folder: Path, tmp_path: Path) -> None:
    stuck = ["--model.optimization.lr", "1e-30", "--early_stopping.patience", "2", "--trainer.max_epochs", "50"]
    assert fit(small_folder, tmp_path, *stuck) == 0
    manifest = read(tmp_path / "small" / "sasrec" / "seed0" / "manifest.json")
    assert (manifest["stopped_by"], manifest["epochs"], manifest["best_epoch"]) == ("patience", 3, 0)


def test_popularity_is_a_run_like_any_other(small_folder: Path, tmp_path: Path) -> None:
    arguments = ["fit", "--model", "Popularity", "--data.dataset", str(small_folder), "--run.root", str(tmp_path)]
    assert main([*arguments, *QUIET]) == 0
    folder = tmp_path / "small" / "popularity" / "seed0"
    assert read(folder / "manifest.json")["stopped_by"] == "counted"
    assert np.isfinite(read(folder / "metrics.json")["test/ndcg@10"])


def test_nan_loss_stops_and_keeps_the_last_good_checkpoint(
    small_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    poison = ["--trainer.callbacks", "poison.Poison", "--trainer.callbacks.epoch", "1"]
    assert fit(small_folder, tmp_path, *poison) == 1
    text = capsys.readouterr().err
    assert "step" in text and "NaN" in text and "Traceback" not in text
    folder = tmp_path / "small" / "sasrec" / "seed0"
    manifest = read(folder / "manifest.json")
    assert (manifest["stopped_by"], manifest["epochs"]) == ("nan", 1) and "step" in manifest["error"]
    kept = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert all(torch.isfinite(weight).all() for weight in kept["state_dict"].values())


def test_ctrl_c_inside_the_end_of_an_epoch_loses_no_row(
    small_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The interrupt may come between the row of an epoch and its file."""
    from recsys_lab.runs import folder as module

    def interrupted(path: Path, kept: list[dict[str, Any]]) -> None:
        if len(kept) == 2:
            monkeypatch.setattr(module, "write_rows", write)
            raise KeyboardInterrupt
        write(path, kept)

    write = module.write_rows
    monkeypatch.setattr(module, "write_rows", interrupted)
    command = ["fit", *TINY, "--data.dataset", str(small_folder), "--run.root", str(tmp_path)]
    assert main([*command, "--trainer.max_epochs", "9"]) == 130
    run = tmp_path / "small" / "sasrec" / "seed0"
    assert read(run / "manifest.json")["epochs"] == len(rows(run)) == 2


@pytest.mark.process
def test_ctrl_c_keeps_what_there_is(small_folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "recsys_lab.cli", "fit", *TINY, "--data.dataset", str(small_folder)]
    command += ["--run.root", str(tmp_path), "--trainer.max_epochs", "100000", "--early_stopping.patience", "100000"]
    folder = tmp_path / "small" / "sasrec" / "seed0"
    # a job in the background of a script is born deaf to Ctrl-C, and its children with it: hear it all the same
    with heeding_interrupts():
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    with process:
        for _ in range(3_000):
            if (folder / "checkpoints" / "last.ckpt").is_file() or process.poll() is not None:
                break
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        try:
            output, _ = process.communicate(timeout=300)
        finally:
            process.kill()
    assert process.returncode == 130, output
    assert "Traceback" not in output and f"recsys-lab fit {folder}" in output
    manifest = read(folder / "manifest.json")
    assert manifest["stopped_by"] == "interrupted" and manifest["epochs"] == len(rows(folder)) >= 1
    assert "val/ndcg@10" in read(folder / "metrics.json")
    assert main(["fit", str(folder), "--trainer.max_epochs", str(manifest["epochs"] + 1)]) == 0
    assert read(folder / "manifest.json")["stopped_by"] == "max_epochs"
