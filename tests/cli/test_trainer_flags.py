"""The Trainer's flags that people use: each works, or is refused in one line before anything is trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lightning as L
import polars as pl
import pytest
import torch
import yaml

from recsys_lab.cli import main
from recsys_lab.evaluation.callback import shown_cutoff
from recsys_lab.models import NextItemModule
from recsys_lab.study.launch.job import is_finished

TINY = ["--model", "GRU4Rec", "--model.embedding_dim", "8", "--model.hidden_dim", "8", "--data.max_length", "8"]
TINY += ["--data.batch_size", "2", "--trainer.max_epochs", "2", "--trainer.accelerator", "cpu"]
TINY += ["--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"]
WATCH_TRAINING = ["--early_stopping.monitor", "train/loss", "--early_stopping.mode", "min"]
WATCH_TRAINING += ["--checkpoint.monitor", "train/loss", "--checkpoint.mode", "min"]


def fit(data: Path, root: Path, *more: str) -> int:
    one = [] if "--trainer.devices" in more else ["--trainer.devices", "1"]
    return main(["fit", *TINY, *one, "--data.dataset", str(data), "--run.folder", str(root / "run"), *more])


def metrics(root: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((root / "run" / "metrics.json").read_text())
    return found


def manifest(root: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((root / "run" / "manifest.json").read_text())
    return found


def has_test(root: Path) -> bool:
    return (root / "run" / "ranks.parquet").is_file() and "test/ndcg@10" in metrics(root)


class Counter(L.Callback):
    """Batches of each kind that were taken in the last fit or prediction."""

    seen: dict[str, int] = {}

    def on_train_batch_end(self, *_: Any) -> None:
        self.seen["train"] = self.seen.get("train", 0) + 1

    def on_validation_batch_end(self, *_: Any) -> None:
        self.seen["val"] = self.seen.get("val", 0) + 1

    def on_test_batch_end(self, *_: Any) -> None:
        self.seen["test"] = self.seen.get("test", 0) + 1

    def on_predict_batch_end(self, *_: Any) -> None:
        self.seen["predict"] = self.seen.get("predict", 0) + 1


COUNTED = ["--trainer.callbacks", f"{__name__}.Counter"]


# -- they work ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [2, 7])
def test_max_steps_inside_an_epoch_validates_keeps_and_tests(steps: int, small_folder: Path, tmp_path: Path) -> None:
    assert fit(small_folder, tmp_path, "--trainer.max_steps", str(steps)) == 0
    assert has_test(tmp_path) and "val/ndcg@10" in metrics(tmp_path)
    assert manifest(tmp_path)["stopped_by"] == "max_steps" and is_finished(tmp_path / "run")
    assert (tmp_path / "run" / "checkpoints" / "best.ckpt").is_file()


def test_limits_of_1_are_one_batch_as_typed(
    small_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kinds = ("train", "val", "test")
    typed = [word for kind in kinds for word in (f"--trainer.limit_{kind}_batches", "1")]
    few = ["--data.eval_batch_size", "2", "--trainer.num_sanity_val_steps", "0", "--trainer.max_epochs", "1"]
    Counter.seen.clear()
    assert fit(small_folder, tmp_path, *typed, *few, *COUNTED) == 0
    assert Counter.seen == {"train": 1, "val": 1, "test": 1}
    said = capsys.readouterr().err
    for kind in ("val", "test"):
        assert f"--trainer.limit_{kind}_batches 1 takes the first batches, which hold the longest windows" in said
    longest = pl.read_parquet(tmp_path / "run" / "ranks.parquet")["history_length"].min()
    config = tmp_path / "run" / "config.yaml"
    assert [yaml.safe_load(config.read_text())["trainer"][f"limit_{kind}_batches"] for kind in kinds] == [1, 1, 1]
    assert "limit_val_batches: 1\n" in config.read_text()
    Counter.seen.clear()
    assert main(["predict", str(tmp_path / "run"), "--trainer.limit_predict_batches", "1"]) == 0
    assert Counter.seen == {"predict": 1}
    Counter.seen.clear()
    assert main(["fit", "--config", str(config), "--run.folder", str(tmp_path / "again")]) == 0
    assert Counter.seen == {"train": 1, "val": 1, "test": 1}, "from YAML"
    text = config.read_text()
    for kind in kinds:
        text = text.replace(f"limit_{kind}_batches: 1\n", f"limit_{kind}_batches: 1.0\n")
    config.write_text(text)
    capsys.readouterr()
    Counter.seen.clear()
    assert main(["fit", "--config", str(config), "--run.folder", str(tmp_path / "all")]) == 0
    assert min(Counter.seen.values()) > 1
    lengths = pl.read_parquet(tmp_path / "all" / "ranks.parquet")["history_length"]
    assert longest >= 8 > lengths.min(), "windows of 8 events"
    assert "takes the first batches" not in capsys.readouterr().err
    capsys.readouterr()
    for text in ("1", "1.0"):
        typed = ["--trainer.limit_val_batches", text, "--print_config"]
        assert main(["fit", "--model", "SASRec", *typed]) == 0
        assert f"limit_val_batches: {text}\n" in capsys.readouterr().out


def test_without_checkpoints_the_last_epoch_is_tested(
    small_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit(small_folder, tmp_path, "--trainer.enable_checkpointing", "false") == 0
    assert has_test(tmp_path) and not list(tmp_path.rglob("*.ckpt"))
    assert "the last epoch is tested" in capsys.readouterr().err
    assert fit(small_folder, tmp_path) == 2, "it is a run, though without checkpoints"


def test_fast_dev_run_says_that_nothing_was_written(
    small_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit(small_folder, tmp_path, "--trainer.fast_dev_run", "true") == 0
    text = capsys.readouterr().err
    assert "nothing was written" in text and "the run is in" not in text
    assert list(tmp_path.iterdir()) == []


def test_validation_every_second_epoch(small_folder: Path, tmp_path: Path) -> None:
    every = ["--trainer.check_val_every_n_epoch", "2", "--trainer.max_epochs", "3"]
    assert fit(small_folder, tmp_path, *every) == 0
    assert has_test(tmp_path) and manifest(tmp_path)["best_epoch"] == 1
    lines = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    place = lines[0].split(",").index("val/ndcg@10")
    assert [bool(line.split(",")[place]) for line in lines[1:]] == [False, True, False]


def test_other_cutoffs_lead_early_stopping_checkpoint_and_what_is_printed(
    small_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit(small_folder, tmp_path, "--evaluation.cutoffs", "[2,5]") == 0
    text = capsys.readouterr().err
    assert "early_stopping.monitor is val/ndcg@5" in text and "checkpoint.monitor is val/ndcg@5" in text
    assert "test      ndcg@5 " in text and "@2 " not in text
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert config["early_stopping"]["monitor"] == config["checkpoint"]["monitor"] == "val/ndcg@5"
    assert shown_cutoff((1, 5, 10, 20)) == 10 and shown_cutoff((1, 8, 12)) == 12 and shown_cutoff((50,)) == 50


def test_the_training_loss_can_be_watched_without_validation(small_folder: Path, tmp_path: Path) -> None:
    assert fit(small_folder, tmp_path, "--trainer.limit_val_batches", "0", *WATCH_TRAINING) == 0
    assert has_test(tmp_path) and not any(name.startswith("val/") for name in metrics(tmp_path))


def test_without_a_monitor_the_last_epoch_is_tested(small_folder: Path, tmp_path: Path) -> None:
    """Under a rate so high that validation is best at the start."""
    for number, more in enumerate(([], ["--checkpoint.monitor", "null"])):
        settings = ["--model.optimization.lr", "3.0", "--trainer.max_epochs", "4", *more]
        assert fit(small_folder, tmp_path / str(number), *settings) == 0
    by_validation, last = (manifest(tmp_path / str(number))["best_epoch"] for number in range(2))
    assert by_validation < last == 3
    kept = [tmp_path / "1" / "run" / "checkpoints" / f"{name}.ckpt" for name in ("best", "last")]
    best, newest = (torch.load(path, weights_only=True)["state_dict"] for path in kept)
    assert all(torch.equal(value, newest[name]) for name, value in best.items())


def test_an_average_of_the_weights(small_folder: Path, tmp_path: Path) -> None:
    assert fit(small_folder, tmp_path, "--trainer.callbacks", "EMAWeightAveraging") == 0
    assert has_test(tmp_path)


def test_more_processes_than_cores_are_said_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from recsys_lab.runs.fit import trainer_checks
    from recsys_lab.words import RecsysLabError

    monkeypatch.setattr(trainer_checks.os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    trainer = type("T", (), {"devices": "99", "accelerator": "cpu"})()
    with pytest.raises(RecsysLabError, match="--trainer.devices 99 asks for 99 processes on 2 cores"):
        trainer_checks._check_devices(trainer)
    for devices in ("auto", "1", 2, 3, "8", "-1"):
        trainer.devices = devices
        trainer_checks._check_devices(trainer)
    trainer.devices = [0, 1]
    with pytest.raises(RecsysLabError, match=r"--trainer.devices \[0, 1\]: on a CPU this is a number of processes"):
        trainer_checks._check_devices(trainer)
    trainer.accelerator = "gpu"
    trainer_checks._check_devices(trainer)


# -- a fit with nothing to show ----------------------------------------------------------------------------------------


def test_a_fit_without_any_value_exits_with_3(
    small_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    none = ["--trainer.limit_val_batches", "0", *WATCH_TRAINING, "--run.test_after_fit", "false"]
    assert fit(small_folder, tmp_path, *none) == 3
    assert "neither a validation nor a test value" in capsys.readouterr().err
    assert main(["test", str(tmp_path / "run")]) == 0, "what was trained is kept"


@pytest.mark.parametrize(
    "more",
    [["--run.test_after_fit", "false"], ["--trainer.limit_test_batches", "0"]],
    ids=["no test", "test of nothing"],
)
def test_a_fit_that_only_validates_is_a_fit(more: list[str], small_folder: Path, tmp_path: Path) -> None:
    assert fit(small_folder, tmp_path, *more) == 0
    assert "val/ndcg@10" in metrics(tmp_path) and not (tmp_path / "run" / "ranks.parquet").exists()


def test_the_exit_codes_are_documented(capsys: pytest.CaptureFixture[str]) -> None:
    import recsys_lab.cli as cli

    assert main(["--help"]) == 0
    for text in (capsys.readouterr().out, str(cli.__doc__)):
        assert all(f"{code} " in text for code in (0, 1, 2, 3, 130))


# -- they are refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--trainer.limit_val_batches", "0"], ["--trainer.limit_val_batches 0", "train/loss"]),
        (["--trainer.limit_val_batches", "0.0"], ["no validation"]),
        (["--trainer.check_val_every_n_epoch", "5"], ["check_val_every_n_epoch 5", "max_epochs 2"]),
        (["--trainer.barebones", "true"], ["--trainer.barebones true"]),
        (["--trainer.max_epochs", "0"], ["--trainer.max_epochs 0", "nothing"]),
        (["--trainer.max_steps", "0"], ["--trainer.max_steps 0"]),
        (["--trainer.limit_train_batches", "0"], ["--trainer.limit_train_batches 0"]),
        (["--trainer.max_epochs", "-5"], ["max_epochs", "-5"]),
        (["--trainer.devices", "99999"], ["--trainer.devices 99999"]),
        (["--trainer.devices", "0"], ["devices"]),
        (["--trainer.accelerator", "tpu"], ["torch_xla"]),
        (["--trainer.accelerator", "abacus"], ["abacus"]),
        (["--trainer.max_time", "soon"], ["soon"]),
        (["--trainer.overfit_batches", "-1"], ["overfit_batches"]),
        (["--trainer.gradient_clip_algorithm", "sideways"], ["sideways"]),
        (["--early_stopping.monitor", "val/ndcg@7"], ["--early_stopping.monitor", "val/ndcg@10", "cutoffs '[1, 5, 7"]),
        (["--checkpoint.monitor", "val_loss"], ["--checkpoint.monitor val_loss", "val/ndcg@10"]),
        (["--checkpoint.monitor", "val/ndgc@10"], ["val/ndgc@10", "nothing logs that"]),
        (["--checkpoint.monitor", "train/loss"], ["--checkpoint.mode min"]),
        (["--early_stopping.mode", "min"], ["--early_stopping.mode max"]),
        (["--early_stopping.mode", "up"], ["up"]),
        (["--early_stopping.monitor", "val/ndcg@10", "--evaluation.cutoffs", "[5]"], ["val/ndcg@10", "val/ndcg@5"]),
        (["--run.retrain", "true", "--trainer.enable_checkpointing", "false"], ["--run.retrain"]),
        (["--trainer.callbacks", "BatchSizeFinder"], ["BatchSizeFinder", "--data.batch_size"]),
        (["--trainer.callbacks", "LearningRateFinder"], ["LearningRateFinder", "--model.optimization.lr"]),
        (
            ["--trainer.callbacks", "StochasticWeightAveraging", "--trainer.callbacks.swa_lrs", "0.01"],
            ["StochasticWeightAveraging", "EMAWeightAveraging"],
        ),
    ],
    ids=lambda value: " ".join(value) if value and str(value[0]).startswith("--") else "",
)
def test_what_can_not_work_is_one_line_before_training(
    arguments: list[str],
    expected: list[str],
    small_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def trained(*_: Any, **__: Any) -> None:
        raise AssertionError("it trains")

    monkeypatch.setattr(NextItemModule, "configure_model", trained)
    assert fit(small_folder, tmp_path, *arguments) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("recsys-lab: error: ")]
    assert len(said) == 1 and all(part in said[0] for part in expected), said
    assert not (tmp_path / "run").exists(), "nothing is left behind"


def test_a_metric_of_ones_own_can_be_watched_or_fails_in_a_line(
    small_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A callback that is not ours may log under any name: only the first epoch shows whether it does."""
    for name, code in (("val/mine", 0), ("val/yours", 2)):
        own = ["--trainer.callbacks", f"{__name__}.Own", "--early_stopping.monitor", name, "--checkpoint.monitor", name]
        assert fit(small_folder, tmp_path, *own, "--run.folder", str(tmp_path / name)) == code
    said = capsys.readouterr().err
    assert "Traceback" not in said and "val/yours" in said.splitlines()[-1]


class Own(L.Callback):
    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        if not trainer.sanity_checking:
            pl_module.log("val/mine", 0.5)


@pytest.mark.parametrize("kind", ["test", "validate", "predict"])
def test_evaluating_nothing_is_refused(
    kind: str, small_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    option = {"test": "limit_test_batches", "validate": "limit_val_batches", "predict": "limit_predict_batches"}[kind]
    checkpoint = tmp_path / "any.ckpt"
    import torch

    torch.save({"model_config": {}}, checkpoint)
    arguments = ["--model", "SASRec", "--ckpt_path", str(checkpoint), f"--trainer.{option}", "0"]
    assert main([kind, *arguments]) == 2
    assert f"--trainer.{option} 0 leaves nothing to {kind}" in capsys.readouterr().err


def test_a_split_may_be_named_without_arguments(small_folder: Path, tmp_path: Path) -> None:
    """As a study writes it: `split: {class_path: LeaveOneOut}`."""
    config = tmp_path / "run.yaml"
    config.write_text("data: {split: {class_path: recsys_lab.data.split.leave_one_out.LeaveOneOut}}\n")
    words = ["--model", "Popularity", "--data.dataset", str(small_folder), "--run.folder", str(tmp_path / "run")]
    assert main(["fit", "--config", str(config), *words, "--trainer.enable_progress_bar", "false"]) == 0
