"""A fit that is told to end by a signal writes a checkpoint at the step where it is, and goes on there bit by bit."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from test_run_folder_life import TINY

from recsys_lab.cli import main

MORE = ["--model.dropout", "0.3", "--trainer.max_epochs", "3", "--run.test_after_fit", "false"]


class Told(L.Callback):
    """Sends a signal to its own process inside a step."""

    armed: int | None = None
    at = (0, 0)

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        epoch_and_batch = trainer.fit_loop.epoch_progress.current.processed, trainer.fit_loop.epoch_loop.batch_idx
        if Told.armed is not None and epoch_and_batch == self.at:
            number, Told.armed = Told.armed, None
            signal.raise_signal(number)


def fit(data: Path, folder: Path, *words: str) -> int:
    own = ["--trainer.callbacks", f"{__name__}.Told", "--data.dataset", str(data), "--run.folder", str(folder)]
    return main(["fit", *TINY, *MORE, *own, *words])


def last(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    return found


@pytest.fixture(scope="module")
def whole(small_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("whole")
    assert fit(small_folder, folder) == 0
    return last(folder)


@pytest.mark.parametrize(
    ("name", "at", "accumulate"), [("SIGTERM", (0, 0), 1), ("SIGUSR1", (1, 2), 1), ("SIGUSR2", (1, 3), 2)]
)
def test_the_step_is_kept(
    name: str,
    at: tuple[int, int],
    accumulate: int,
    whole: dict[str, Any],
    small_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    handlers = {one: signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)}
    monkeypatch.setattr(Told, "armed", getattr(signal, name))
    monkeypatch.setattr(Told, "at", at)
    words = ["--trainer.accumulate_grad_batches", str(accumulate)] if accumulate > 1 else []
    assert fit(small_folder, tmp_path / "run", *words) == 130
    assert "go on with" in capsys.readouterr().err
    per_epoch = whole["global_step"] // 3
    steps = at[0] * -(-per_epoch // accumulate) + at[1] // accumulate + 1
    assert last(tmp_path / "run")["global_step"] == steps
    assert handlers == {one: signal.getsignal(one) for one in handlers}
    assert main(["fit", str(tmp_path / "run"), "--allow_classes", __name__]) == 0
    if accumulate > 1:
        assert fit(small_folder, tmp_path / "undisturbed", *words) == 0
        whole = last(tmp_path / "undisturbed")
    found = last(tmp_path / "run")
    assert found["global_step"] == whole["global_step"]
    assert all(torch.equal(value, found["state_dict"][key]) for key, value in whole["state_dict"].items())
