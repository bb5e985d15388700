"""A run of some processes, or the rest of one; test_other_number.py starts it.

python other_number.py <prepared folder> <output folder> <processes> <checkpoint or ->

Writes the windows of each batch, and the weights after the first epoch and at the end.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.losses import CrossEntropy
from recsys_lab.models import GRU4Rec

BATCH = 2  # of a process


class Seen(L.Callback):
    def __init__(self) -> None:
        self.windows: list[tuple[int, int, list[int]]] = []
        self.weights: list[dict[str, torch.Tensor]] = []

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        epoch = trainer.fit_loop.epoch_progress.current.processed
        for user, targets in zip(batch.user_index.tolist(), batch.target_ids.tolist(), strict=True):
            self.windows.append((epoch, batch_idx, [user, *(target for target in targets if target)]))

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self.weights.append({name: value.clone() for name, value in pl_module.state_dict().items()})


def run(data_folder: str, output: Path, devices: int, checkpoint: str | None) -> None:
    L.seed_everything(0, verbose=False)
    data = SequenceDataModule(data_folder, max_length=5, batch_size=BATCH, seed=0, num_workers=0)
    seen, every = Seen(), ModelCheckpoint(output, "{step}", every_n_train_steps=1, save_top_k=-1)
    quiet = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary"), False)
    trainer = L.Trainer(
        accelerator="cpu",
        devices=devices,
        strategy="ddp" if devices > 1 else "auto",
        max_epochs=2,
        default_root_dir=output,
        callbacks=[seen, *([every] if checkpoint is None else [])],
        **quiet,
    )
    model = GRU4Rec(embedding_dim=8, dropout=0.0, loss=CrossEntropy())
    # Adam would scale up what is rounding alone
    model.configure_optimizers = lambda: torch.optim.SGD(model.parameters(), lr=0.05)
    trainer.fit(model, data, ckpt_path=checkpoint, weights_only=True)
    facts = {"windows": seen.windows, "steps": trainer.global_step, "batches": len(data.train_dataloader())}
    name = f"{devices}-{'whole' if checkpoint is None else 'rest'}-rank{trainer.global_rank}"
    (output / f"{name}.json").write_text(json.dumps(facts))
    torch.save(seen.weights, output / f"{name}.pt")


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder, output, devices, checkpoint = sys.argv[1:]
    run(folder, Path(output), int(devices), None if checkpoint == "-" else checkpoint)
