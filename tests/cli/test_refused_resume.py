"""A refusal takes nothing away: the files of a finished run stay as they were."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.trainer.connectors.checkpoint_connector import _CheckpointConnector
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from recsys_lab.cli import main
from recsys_lab.runs.run_files import write_manifest

TINY = ["--model", "SASRec", "--model.embedding_dim", "8", "--model.num_layers", "1", "--data.max_length", "8"]
TINY += ["--data.batch_size", "4", "--trainer.max_epochs", "2", "--trainer.accelerator", "cpu"]
TINY += ["--trainer.devices", "1", "--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"]


def read(folder: Path, name: str = "manifest.json") -> Any:
    return json.loads((folder / name).read_text())


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def finished(small_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished") / "run"
    assert main(["fit", *TINY, "--data.dataset", str(small_folder), "--run.folder", str(folder)]) == 0
    return folder


@pytest.mark.parametrize(("what", "most", "done"), [("epochs", 1, 2), ("steps", 1, 8)])
def test_fewer_epochs_or_steps_than_a_run_has_are_refused_before_a_file_changes(
    what: str, most: int, done: int, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "run"))
    before = files(folder)
    assert main(["fit", str(folder), f"--trainer.max_{what}", str(most)]) == 2
    text = capsys.readouterr().err
    assert f"--trainer.max_{what} {most}: the run has {done} {what} already; ask for more, or leave it out" in text
    assert files(folder) == before


def test_as_many_epochs_as_a_run_has_leave_nothing_to_train(finished: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "run"))
    before = read(folder, "metrics.json")
    assert main(["fit", str(folder), "--trainer.max_epochs", "2"]) == 0
    assert read(folder, "metrics.json") == before and read(folder)["stopped_by"] == "max_epochs"


@pytest.mark.parametrize("hook", ["restore_training_state", "_restore_modules_and_callbacks"])
@pytest.mark.parametrize("error", [MisconfigurationException, KeyboardInterrupt])
def test_what_lightning_refuses_late_leaves_a_finished_run_as_it_was(
    hook: str, error: type[BaseException], finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "run"))
    before = files(folder)

    def refuse(*_: Any, **__: Any) -> None:
        raise error("refused late")

    monkeypatch.setattr(_CheckpointConnector, hook, refuse)
    assert main(["fit", str(folder), "--trainer.max_epochs", "3"]) in (2, 130)
    assert files(folder) == before


@pytest.mark.parametrize("command", ["test", "validate", "predict", "diagnose shuffle"])
def test_a_run_without_an_epoch_says_how_to_get_one(
    command: str, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    manifest = {k: v for k, v in read(finished).items() if k not in ("checkpoint", "checkpoint_sha256")}
    shutil.copy(finished / "config.yaml", folder)
    write_manifest(folder, manifest | {"stopped_by": "running"})
    assert main([*command.split(), str(folder)]) == 2
    text = capsys.readouterr().err
    assert f"no epoch of this run has ended. Train it first: recsys-lab fit {folder}" in text
