"""A user's own training script, run by test_two_processes.py: Lightning starts its second process by itself.

    python two_processes.py <prepared folder> <output folder>

Writes what each process trained on and evaluated, the metrics, the ranks and the final weights.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import lightning as L
import torch

from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.evaluation.callback import RankingEvaluation
from recsys_lab.models import SASRec

BATCH = 4  # per process; one process takes the same steps with 2 * BATCH


class Record(L.Callback):
    """What this process saw."""

    def __init__(self) -> None:
        self.train: list[list[tuple[int, list[int]]]] = []  # epoch -> (user, targets) of each window
        self.sizes: list[int] = []  # rows of each training batch
        self.seen: dict[str, list[int]] = {"val": [], "test": []}  # users, of each evaluation

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.train.append([])

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self.sizes.append(len(batch))
        self.train[-1] += zip(batch.user_index.tolist(), batch.target_ids.tolist(), strict=True)

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.seen["val"] = []

    def on_validation_batch_start(self, trainer: Any, pl_module: Any, batch: Any, *_: Any) -> None:
        self.seen["val"] += batch.user_index.tolist()

    def on_test_batch_start(self, trainer: Any, pl_module: Any, batch: Any, *_: Any) -> None:
        self.seen["test"] += batch.user_index.tolist()


def run(data_folder: str, output: Path, devices: int, batch_size: int) -> None:
    L.seed_everything(0)
    data = SequenceDataModule(data_folder, max_length=5, batch_size=batch_size, eval_batch_size=3, seed=0)
    model = SASRec(embedding_dim=16, num_layers=1, dropout=0.0)
    evaluation, record = RankingEvaluation(cutoffs=(1, 5)), Record()
    trainer = L.Trainer(
        accelerator="cpu",
        devices=devices,
        strategy="ddp" if devices > 1 else "auto",
        max_epochs=2,
        default_root_dir=output,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=[evaluation, record],
    )
    trainer.fit(model, data)
    train_loss = float(trainer.callback_metrics["train/loss_epoch"])
    trainer.save_checkpoint(output / f"{devices}.ckpt")
    val = dict(evaluation.last_metrics)
    trainer.test(model, data, verbose=False)
    assert evaluation.last_ranks is not None
    facts = {
        "metrics": val | evaluation.last_metrics,
        "ranks": evaluation.last_ranks.tolist(),
        "train_loss": train_loss,
        "train": record.train,
        "sizes": record.sizes,
        "seen": record.seen,
        "steps": trainer.global_step,
        "train_tokens": model.train_tokens,
    }
    (output / f"{devices}-rank{trainer.global_rank}.json").write_text(json.dumps(facts))


if __name__ == "__main__":
    torch.set_num_threads(1)
    run(sys.argv[1], Path(sys.argv[2]), devices=2, batch_size=BATCH)
