"""A checkpoint is used for what it was trained for: another split, other windows, another model are refused by name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.callbacks import BatchSizeFinder, LearningRateFinder
from small_data import made_events, prepared, quiet_trainer

from recsys_lab.cli import main
from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.data.split.leave_one_out import GlobalTemporal, LeaveOneOut
from recsys_lab.models import GRU4Rec
from recsys_lab.runs.folder import RunFolder

QUIET = ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
SMALL = ["--model.embedding_dim", "8", "--data.max_length", "8", "--trainer.max_epochs", "1", *QUIET]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("made")
    prepared(root / "data" / "small", made_events(num_users=40, shortest=4))
    assert fit(root, "GRU4Rec", *SMALL) == 0
    assert fit(root, "EASE", *QUIET) == 0
    return root


def fit(root: Path, model: str, *more: str) -> int:
    where = ["--data.dataset", "small", "--data.data_dir", str(root / "data"), "--run.folder", str(root / model)]
    return main(["fit", "--model", model, *where, *more])


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def content(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("model", ["GRU4Rec", "EASE"])
def test_another_split_is_refused_or_stands_in_the_manifest(
    model: str, made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(made / model, tmp_path / "run"))
    other = ["test", str(run), "--data.split", "GlobalTemporal"]
    assert main(other) == 2
    said = capsys.readouterr().err
    assert "--data.split: trained with leave_one_out (leaky), asked global_temporal" in said
    assert "--allow_other_training true" in said
    assert main([*other, "--allow_other_training", "true"]) == 0
    trained_on = read(run / "test" / "manifest.json")["trained_on"]
    assert trained_on["sees_targets"] and "leave_one_out" in trained_on["description"]
    assert trained_on["training_hash"] == read(run / "manifest.json")["training_hash"]
    assert main(["compare", str(run), str(run / "test"), "--no-baselines", "--force"]) == 0
    assert "trained on events at or after the test targets, so in no test" in " ".join(capsys.readouterr().out.split())


def test_other_windows_and_another_model(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Path(shutil.copytree(made / "GRU4Rec", tmp_path / "run"))
    for change, text in (
        (["--data.max_length", "5"], "--data.max_length: trained with 8, asked 5"),
        (["--model.residual", "true"], "--model.residual: trained with False, asked True"),
    ):
        for command in ("test", "predict"):
            assert main([command, str(run), *change]) == 2
            assert text in capsys.readouterr().err
    assert main(["test", str(run), "--data.max_length", "5", "--allow_other_training", "true"]) == 0
    assert read(run / "test" / "manifest.json")["trained_on"]["sees_targets"] is False
    assert main(["verify", str(run / "test")]) == 0


def test_a_resume_keeps_its_settings(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Path(shutil.copytree(made / "GRU4Rec", tmp_path / "run"))
    before = content(run)
    for name, value in (
        ("model.optimization.lr", "0.5"),
        ("model.embedding_dim", "16"),
        ("model.loss", "BPRMax"),
        ("data.batch_size", "16"),
        ("trainer.gradient_clip_val", "1.0"),
        ("seed_everything", "3"),
        ("data.seed", "3"),
    ):
        assert main(["fit", str(run), "--trainer.max_epochs", "2", f"--{name}", value]) == 2
        assert f"--{name}: it began with" in capsys.readouterr().err
        assert content(run) == before, name


def test_going_on_forgets_the_old_test(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Path(shutil.copytree(made / "GRU4Rec", tmp_path / "run"))
    assert main(["fit", str(run), "--trainer.max_epochs", "2", "--run.test_after_fit", "false"]) == 0
    assert not (run / "ranks.parquet").exists()
    assert not [name for name in read(run / "metrics.json") if name.startswith("test/")]
    assert main(["compare", str(run), "--no-baselines"]) == 2
    said = capsys.readouterr().err
    assert f"recsys-lab fit {run} --run.test_after_fit true" in said and "made later" not in said
    assert main(["test", str(run)]) == 0
    assert main(["compare", str(run), "--no-baselines"]) == 2
    assert f"or name the test that was made later: {run / 'test'}" in capsys.readouterr().err
    assert main(["compare", str(run / "test"), "--no-baselines"]) == 0


@pytest.mark.parametrize(
    "finder", [BatchSizeFinder(init_val=8, max_trials=1), LearningRateFinder(num_training_steps=20)]
)
def test_what_a_finder_found_is_recorded(finder: Any, made: Path, tmp_path: Path) -> None:
    """In a notebook; the command line refuses both callbacks."""
    data = SequenceDataModule("small", str(made / "data"), max_length=8, batch_size=2)
    callbacks = [finder, RunFolder(tmp_path / "run")]
    trainer = quiet_trainer(tmp_path, max_epochs=1, callbacks=callbacks)
    trainer.fit(GRU4Rec(embedding_dim=8), data)
    system = read(tmp_path / "run" / "manifest.json")["system"]
    size, rate = system["data"]["batch_size"], system["model"]["init_args"]["optimization"]["init_args"]["lr"]
    assert (size, rate) == (data.batch_size, trainer.optimizers[0].param_groups[0]["lr"]) != (2, 1e-3)


def test_which_training_sees_targets(made: Path) -> None:
    def data(split: Any, **more: Any) -> SequenceDataModule:
        return SequenceDataModule("small", str(made / "data"), split=split, **more)

    def sees(trained: SequenceDataModule, asked: SequenceDataModule) -> bool:
        return asked.sees_targets(trained.spec.training, "test")

    late, early = data(GlobalTemporal(0.9)), data(GlobalTemporal(0.5))
    assert sees(data(LeaveOneOut()), late) and sees(late, early) and sees(late, data(LeaveOneOut()))
    assert not sees(early, late) and not sees(data(LeaveOneOut(), max_length=3), data(LeaveOneOut()))


def test_a_resume_keeps_its_seed_where_the_batches_have_one_of_their_own(
    made: Path, tmp_path: Path, capsys: Any
) -> None:
    seeds = ["--data.seed", "7", "--seed_everything", "1"]
    assert fit(made, "GRU4Rec", *SMALL, *seeds, "--run.folder", str(tmp_path / "run")) == 0
    assert main(["fit", str(tmp_path / "run"), "--trainer.max_epochs", "2", "--seed_everything", "2"]) == 2
    assert "--seed_everything: it began with 1, asked 2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "option", "value", "text", "sees"),
    [
        ("shuffle", "split", "GlobalTemporal", "leave_one_out (leaky)", True),
        ("calibration", "max_length", "5", "8", False),
    ],
)
def test_a_diagnosis_of_other_training_is_refused_or_says_it(
    command: str,
    option: str,
    value: str,
    text: str,
    sees: bool,
    made: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = Path(shutil.copytree(made / "GRU4Rec", tmp_path / "run"))
    assert main(["test", str(run), f"--data.{option}", value, "--allow_other_training", "true"]) == 0
    other = ["diagnose", command, str(run / "test"), "--checkpoint", str(run / "checkpoints" / "best.ckpt")]
    capsys.readouterr()
    assert main(other) == 2
    said = capsys.readouterr().err
    assert f"--data.{option}: trained with {text}, asked" in said and "--allow_other_training true" in said
    assert main([*other, "--allow_other_training", "true"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "trained on something else than it is evaluated on" in said
    assert ("so it knows events at or after the targets" in said) == sees
    found = read(run / "test" / command / f"{command}.json")["trained_on"]
    assert found["sees_targets"] == sees and text in found["description"]
