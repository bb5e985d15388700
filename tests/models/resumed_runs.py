"""Runs that go on from a checkpoint, beside the run that was never stopped: for test_resume_matrix.py, and for two
processes tests/distributed/resume.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.evaluation.callback import RankingEvaluation
from recsys_lab.losses import BCE, SampledSoftmax
from recsys_lab.models import GRU4Rec, NextItemModule, Optimization, SASRec
from recsys_lab.runs.each_epoch import EachEpoch

EPOCHS = 3


@dataclass(frozen=True)
class Cell:
    """Settings of a run."""

    trainer: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    gru: bool = False  # GRU4Rec with shared negatives and a schedule, else SASRec with its own and none

    def model(self) -> NextItemModule:
        if self.gru:
            optimization = Optimization(lr=5e-3, optimizer="adamw", weight_decay=0.1, schedule="cosine", warmup_steps=2)
            return GRU4Rec(embedding_dim=8, dropout=0.3, loss=SampledSoftmax(), optimization=optimization)
        return SASRec(embedding_dim=8, dropout=0.3, loss=BCE(), optimization=Optimization(lr=5e-3))


CELLS = {
    "plain": Cell(),
    "schedule": Cell(gru=True),
    "whole-number-limit": Cell({"limit_train_batches": 3}),
    "whole-number-limit-schedule": Cell({"limit_train_batches": 4}, gru=True),
    "share-limit": Cell({"limit_train_batches": 0.6}),
    "accumulate": Cell({"accumulate_grad_batches": 2}),
    "accumulate-limit": Cell({"accumulate_grad_batches": 2, "limit_train_batches": 3}, gru=True),
    "validate-inside": Cell({"val_check_interval": 0.5}),
    "validate-inside-limit": Cell({"val_check_interval": 2, "limit_train_batches": 5}, gru=True),
    "tokens": Cell(data={"batch_tokens": 16}),
    "tokens-accumulate": Cell(
        {"accumulate_grad_batches": 2, "val_check_interval": 0.5}, {"batch_tokens": 16}, gru=True
    ),
    "unordered": Cell(data={"length_bucketing": False, "training_mode": "last_position", "batch_size": 8}),
    "max-steps": Cell({"max_epochs": -1, "max_steps": 15, "limit_train_batches": 5}),
    "workers": Cell({"limit_train_batches": 4}, {"num_workers": 2}),
}


class EveryEpoch(EachEpoch):
    """Keeps the checkpoint of each epoch's end, written as `EachEpoch` writes the newest."""

    def __init__(self, file: Path) -> None:
        super().__init__(file)
        self.save_top_k, self.auto_insert_metric_name = -1, False


@dataclass
class Outcome:
    weights: dict[str, torch.Tensor]
    metrics: dict[str, float]  # of the last validation, of the last epoch's training, and of a test
    ranks: list[float]
    steps: int


def run(
    cell: Cell,
    data_folder: Path,
    folder: Path,
    devices: int,
    ckpt_path: Path | None = None,
    more: Sequence[L.Callback] = (),
) -> Outcome:
    """Trains, from the start or from a checkpoint, and tests. Checkpoints are written at every epoch's end, after every
    validation and at every step."""
    L.seed_everything(0 if ckpt_path is None else 77, verbose=False)  # the seed of a run is in its checkpoint
    settings = {"max_length": 4, "batch_size": 4, "seed": 0} | cell.data
    data, model = SequenceDataModule(str(data_folder), **settings), cell.model()
    evaluation = RankingEvaluation(cutoffs=(5,))
    every = {"save_top_k": -1, "enable_version_counter": False}
    callbacks: list[L.Callback] = [
        evaluation,
        EachEpoch(folder / "last.ckpt"),
        ModelCheckpoint(folder, "step={step}", auto_insert_metric_name=False, every_n_train_steps=1, **every),
        ModelCheckpoint(folder, "val={step}", auto_insert_metric_name=False, every_n_epochs=1, **every),
        EveryEpoch(folder / "epoch={epoch}.ckpt"),
    ]
    trainer = L.Trainer(
        accelerator="cpu",
        devices=devices,
        strategy="ddp" if devices > 1 else "auto",
        default_root_dir=folder,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **{"max_epochs": EPOCHS, "callbacks": [*callbacks, *more], **cell.trainer},
    )
    trainer.fit(model, data, ckpt_path=ckpt_path, weights_only=True)
    names = ("val/ndcg@5", "val/auc", "train/loss_epoch")
    metrics = {name: float(trainer.callback_metrics[name]) for name in names}
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    steps = trainer.global_step
    trainer.test(model, data, verbose=False)
    assert evaluation.last_ranks is not None
    return Outcome(weights, metrics | evaluation.last_metrics, evaluation.last_ranks.tolist(), steps)


def differences(whole: Outcome, other: Outcome, with_loss: bool) -> list[str]:
    """What is not equal bit for bit. The mean loss of an epoch that was broken off is of its second part."""
    left_out = () if with_loss else ("train/loss_epoch",)
    found = [n for n, v in whole.weights.items() if not torch.equal(v, other.weights[n])]
    found += [n for n, v in whole.metrics.items() if v != other.metrics[n] and n not in left_out]
    found += ["ranks"] if whole.ranks != other.ranks else []
    return found + (["steps"] if whole.steps != other.steps else [])


def starts(folder: Path, accumulate: int) -> list[Path]:
    """Checkpoints to go on from: of an epoch's end, of its middle and last steps, and of a validation."""
    found = sorted(folder.glob("*=*.ckpt"), key=lambda path: (path.stem.split("=")[0], int(path.stem.split("=")[1])))
    epochs, steps, validations = ([p for p in found if p.stem.startswith(kind)] for kind in ("epoch", "step", "val"))
    per_epoch = len(steps) // EPOCHS
    chosen = [epochs[1], steps[per_epoch // 2], steps[2 * per_epoch - 1]]
    return [*chosen, *(validations[1:-1:3] if accumulate == 1 else [])]
