"""A run that is stopped and continued takes the same steps as one that was never stopped: same losses, same weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint
from small_data import quiet_trainer

from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.losses import BCE, CrossEntropy, SampledSoftmax
from recsys_lab.models import GRU4Rec, LSTMAttention, NextItemModule, Optimization, SASRec

EPOCHS = 3


class Steps(L.Callback):
    """Loss and windows of each step, and the validation metrics of each epoch."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.stop_after = stop_after
        self.losses: dict[int, float] = {}
        self.windows: dict[int, list[list[int]]] = {}
        self.validations: list[float] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        step = trainer.global_step
        assert step not in self.losses, "a step is taken once"
        self.losses[step] = float(outputs["loss"])
        self.windows[step] = batch.target_ids.tolist()

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == self.stop_after:
            raise KeyboardInterrupt

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        self.validations.append(float(trainer.callback_metrics["val/auc"]))


def made_model(kind: type[NextItemModule]) -> NextItemModule:
    loss = {SASRec: SampledSoftmax, GRU4Rec: BCE, LSTMAttention: CrossEntropy}[kind]()
    # a schedule makes Lightning ask for the number of steps, and with it for the loader, before it reads the checkpoint
    optimization = Optimization(lr=5e-3, optimizer="adamw", weight_decay=0.1, schedule="cosine", warmup_steps=3)
    if kind is GRU4Rec:
        optimization = Optimization(lr=5e-3)
    return kind(embedding_dim=16, dropout=0.3, loss=loss, optimization=optimization)


def train(
    folder: Path,
    small_folder: Path,
    kind: type[NextItemModule],
    stop_after: int | None = None,
    ckpt_path: Path | None = None,
    callbacks: list[L.Callback] | None = None,
    workers: int = 0,
    seed: int = 0,
    **settings: Any,
) -> tuple[Steps, NextItemModule, L.Trainer]:
    L.seed_everything(seed, verbose=False)
    data = SequenceDataModule(str(small_folder), max_length=4, batch_size=4, seed=0, num_workers=workers)
    steps, model = Steps(stop_after), made_model(kind)
    checkpoint = ModelCheckpoint(folder, save_last=True, save_top_k=-1, filename="{step}", **settings)
    trainer = quiet_trainer(
        folder, max_epochs=EPOCHS, enable_checkpointing=True, callbacks=[steps, checkpoint, *(callbacks or [])]
    )
    try:
        trainer.fit(model, data, ckpt_path=None if ckpt_path is None else str(ckpt_path), weights_only=True)
    except (KeyboardInterrupt, SystemExit):
        assert stop_after is not None
    return steps, model, trainer


def check_same(whole: tuple[Steps, NextItemModule, L.Trainer], parts: list[Steps], model: NextItemModule) -> None:
    steps, expected, _ = whole
    losses: dict[int, float] = {}
    windows: dict[int, Any] = {}
    for part in parts:  # a later part goes on where the checkpoint was written
        losses |= part.losses
        windows |= part.windows
    assert windows == steps.windows, "a batch was repeated, skipped or put into another order"
    assert losses == steps.losses
    assert parts[-1].validations == steps.validations[-len(parts[-1].validations) :]
    for name, value in expected.state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name


@pytest.mark.parametrize("kind", [SASRec, GRU4Rec, LSTMAttention])
def test_resume_at_the_border_of_an_epoch(kind: type[NextItemModule], small_folder: Path, tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", small_folder, kind)
    per_epoch = len(whole[0].losses) // EPOCHS
    assert per_epoch >= 5
    first, _, trainer = train(tmp_path / "part", small_folder, kind, stop_after=per_epoch + 2)
    assert trainer.interrupted
    last = tmp_path / "part" / "last.ckpt"
    assert torch.load(last, weights_only=True)["global_step"] == per_epoch
    rest, model, _ = train(tmp_path / "part", small_folder, kind, ckpt_path=last, seed=99)
    assert min(rest.losses) == per_epoch + 1
    check_same(whole, [first, rest], model)


@pytest.mark.parametrize(("kind", "workers"), [(SASRec, 0), (SASRec, 2), (GRU4Rec, 0)])
def test_resume_in_the_middle_of_an_epoch(
    kind: type[NextItemModule], workers: int, small_folder: Path, tmp_path: Path
) -> None:
    whole = train(tmp_path / "whole", small_folder, kind, every_n_train_steps=1)
    per_epoch = len(whole[0].losses) // EPOCHS
    middle = per_epoch + per_epoch // 2
    saved = tmp_path / "whole" / f"step={middle}.ckpt"
    loops = torch.load(saved, weights_only=True)["loops"]["fit_loop"]["state_dict"]
    assert loops["combined_loader"][0]["batches_done"] == per_epoch // 2, "Lightning asked the loader for its state"
    rest, model, _ = train(tmp_path / "part", small_folder, kind, ckpt_path=saved, workers=workers, seed=99)
    assert min(rest.losses) == middle + 1
    before = Steps()
    before.losses = {step: loss for step, loss in whole[0].losses.items() if step <= middle}
    before.windows = {step: rows for step, rows in whole[0].windows.items() if step <= middle}
    check_same(whole, [before, rest], model)


def test_resume_from_each_step_of_an_epoch(small_folder: Path, tmp_path: Path) -> None:
    """Also from the checkpoints of its last step, before and after validation."""
    whole = train(tmp_path / "whole", small_folder, GRU4Rec, every_n_train_steps=1)
    per_epoch = len(whole[0].losses) // EPOCHS
    for step in range(2 * per_epoch - 2, 2 * per_epoch + 2):
        rest, model, _ = train(
            tmp_path / f"from{step}", small_folder, GRU4Rec, ckpt_path=tmp_path / "whole" / f"step={step}.ckpt", seed=99
        )
        assert sorted(rest.losses) == list(range(step + 1, EPOCHS * per_epoch + 1))
        assert rest.losses == {s: loss for s, loss in whole[0].losses.items() if s > step}
        assert all(torch.equal(v, model.state_dict()[k]) for k, v in whole[1].state_dict().items())


def test_resume_with_a_running_mean_of_the_weights(small_folder: Path, tmp_path: Path) -> None:
    def ema() -> list[L.Callback]:
        return [EMAWeightAveraging(decay=0.8)]

    whole = train(tmp_path / "whole", small_folder, SASRec, callbacks=ema())
    plain = train(tmp_path / "plain", small_folder, SASRec)
    assert plain[0].losses == whole[0].losses and plain[0].validations != whole[0].validations
    per_epoch = len(whole[0].losses) // EPOCHS
    first, _, _ = train(tmp_path / "part", small_folder, SASRec, stop_after=per_epoch + 2, callbacks=ema())
    last = tmp_path / "part" / "last.ckpt"
    rest, model, _ = train(tmp_path / "part", small_folder, SASRec, ckpt_path=last, callbacks=ema(), seed=99)
    check_same(whole, [first, rest], model)

    # a checkpoint holds the averaged weights, the ones that were validated, and loads without the callback
    loaded = SASRec.load_from_checkpoint(tmp_path / "whole" / "last.ckpt")
    for name, value in whole[1].state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name]), name
    data = SequenceDataModule(str(small_folder), max_length=4)
    tested = quiet_trainer(tmp_path).validate(loaded, data, verbose=False)[0]
    assert tested["val/auc"] == pytest.approx(whole[0].validations[-1], abs=1e-6)


def test_the_same_seed_gives_the_same_run(small_folder: Path, tmp_path: Path) -> None:
    one, same, other = (
        train(tmp_path / str(n), small_folder, SASRec, seed=seed)[0] for n, seed in enumerate((1, 1, 2))
    )
    assert one.losses == same.losses and one.validations == same.validations
    assert one.losses != other.losses


def test_weights_that_come_before_the_sizes_wait_for_them(small_folder: Path, tmp_path: Path) -> None:
    """A notebook's model gets its weights from the processes that it spawned before it was ever built itself."""
    data = SequenceDataModule(str(small_folder), max_length=6)
    trained, back = SASRec(embedding_dim=8), SASRec(embedding_dim=8)
    quiet_trainer(tmp_path).fit(trained, data)
    back.load_state_dict(trained.state_dict(), strict=False)
    quiet_trainer(tmp_path).test(back, data, verbose=False)
    for name, value in trained.state_dict().items():
        assert torch.equal(back.state_dict()[name], value), name
