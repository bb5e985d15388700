"""A NaN loss stops training before the weights are touched: at once on a CPU, at the next look on an accelerator."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from small_data import quiet_trainer

from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.losses import CrossEntropy
from recsys_lab.models import NonFiniteLossError, Optimization, SASRec, training_steps
from recsys_lab.models import lightning as base
from recsys_lab.models.training_steps import FiniteLoss


class NaNAt(CrossEntropy):
    """A loss that is NaN in one call, with NaN gradients."""

    def __init__(self, call: int) -> None:
        super().__init__()
        self.call, self.calls = call, 0

    def forward(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        self.calls += 1
        return super().forward(*args, **kwargs) * (math.nan if self.calls == self.call else 1.0)


class Weights(L.Callback):
    """The weights before each step."""

    def __init__(self) -> None:
        self.before: list[dict[str, torch.Tensor]] = []

    def on_train_batch_start(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        self.before.append({name: value.clone() for name, value in pl_module.state_dict().items()})


@pytest.fixture(params=[True, False], ids=["at once", "on the device"])
def at_once(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    class Made(FiniteLoss):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            self.at_once = request.param

    monkeypatch.setattr(base, "FiniteLoss", Made)
    return bool(request.param)


def fit(small_folder: Path, folder: Path, bad_call: int, *callbacks: L.Callback, **settings: Any) -> SASRec:
    L.seed_everything(0, verbose=False)
    data = SequenceDataModule(str(small_folder), max_length=4, batch_size=4)
    model = SASRec(embedding_dim=8, loss=NaNAt(bad_call), optimization=Optimization("adamw", weight_decay=0.1))
    trainer = quiet_trainer(folder, **{"max_epochs": 3, "callbacks": [*callbacks], **settings})
    try:
        trainer.fit(model, data)
    except NonFiniteLossError as error:
        model.said = str(error)  # type: ignore[assignment]
    return model


@pytest.mark.parametrize("clip", [None, 1.0])
def test_the_weights_are_those_before_the_bad_step(
    clip: float | None, at_once: bool, small_folder: Path, tmp_path: Path
) -> None:
    seen = Weights()
    model = fit(small_folder, tmp_path, 3, seen, gradient_clip_val=clip)
    assert str(model.said).startswith("the training loss became NaN or infinite at step 2 (epoch 0): stopped before")
    assert (len(seen.before) == 3) is at_once, "on an accelerator the epoch is run to its end"
    for name, value in model.state_dict().items():
        assert torch.equal(value, seen.before[2][name]) and torch.isfinite(value).all(), name


def test_one_bad_batch_of_an_accumulated_step(at_once: bool, small_folder: Path, tmp_path: Path) -> None:
    seen = Weights()
    model = fit(small_folder, tmp_path, 3, seen, accumulate_grad_batches=2)
    assert "at step 1 (epoch 0)" in str(model.said)
    assert all(torch.equal(value, seen.before[2][name]) for name, value in model.state_dict().items())


def test_a_look_comes_after_so_many_batches(
    at_once: bool, small_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_steps, "LOOK_EVERY", 2)
    seen = Weights()
    model = fit(small_folder, tmp_path, 3, seen)
    assert "at step 2 (epoch 0)" in str(model.said) and len(seen.before) == (3 if at_once else 4)


def test_no_checkpoint_and_no_validation_comes_after_a_bad_loss(
    at_once: bool, small_folder: Path, tmp_path: Path
) -> None:
    every = ModelCheckpoint(tmp_path, "{step}", save_top_k=-1, every_n_train_steps=1)
    model = fit(small_folder, tmp_path, 3, every, enable_checkpointing=True, val_check_interval=3)
    assert "at step 2 (epoch 0)" in str(model.said)
    assert sorted(path.name for path in tmp_path.glob("*.ckpt")) == ["step=1.ckpt", "step=2.ckpt"]


def test_a_good_run_is_the_same_both_ways(small_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_once = fit(small_folder, tmp_path, 0)
    monkeypatch.setattr(base, "FiniteLoss", lambda *args: vars_with(FiniteLoss(*args), at_once=False))
    later = fit(small_folder, tmp_path, 0)
    assert all(torch.equal(value, later.state_dict()[name]) for name, value in at_once.state_dict().items())


def vars_with(finite: FiniteLoss, at_once: bool) -> FiniteLoss:
    finite.at_once = at_once
    return finite


def test_an_optimiser_that_can_not_skip_is_looked_at_each_step() -> None:
    table = torch.nn.Parameter(torch.ones(3, 2))
    fused, plain = (torch.optim.Adam([table], fused=fused) for fused in (True, False))
    device = torch.device("meta")
    assert FiniteLoss(device, [plain]).at_once and FiniteLoss(device, [fused, plain]).at_once
    assert not FiniteLoss(device, [fused]).at_once and FiniteLoss(torch.device("cpu"), [fused]).at_once


def test_a_stopped_model_can_be_trained_again(small_folder: Path, tmp_path: Path) -> None:
    model = fit(small_folder, tmp_path, 3)
    data = SequenceDataModule(str(small_folder), max_length=4, batch_size=4)
    model.task.loss_function = CrossEntropy()
    trainer = quiet_trainer(tmp_path)
    trainer.fit(model, data)
    assert math.isfinite(float(trainer.callback_metrics["train/loss_epoch"]))
