"""What each of two processes holds, sends and writes with a divided table; test_held_bytes.py starts it.

python held.py <prepared folder> <output folder>
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor

from recsys_lab import losses
from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.models import GRU4Rec, Optimization
from recsys_lab.ops import shards

CASES = {
    "adam": ("CrossEntropy", True),
    "sparse_adam": ("SampledSoftmax", True),
    "rowwise_adagrad": ("SampledSoftmax", True),
    "adam, whole": ("CrossEntropy", False),
}
"""Optimiser -> loss, and whether the table is divided."""
WIDTH, LENGTH, BATCH = 16, 10, 8


class Held(L.Callback):
    """Bytes of this process, after a step, and what it sent in it."""

    def __init__(self) -> None:
        self.gradients = self.optimiser = self.sent = self.steps = 0

    def on_train_batch_start(self, *_: Any) -> None:
        self.mark = written()

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        found = [one.grad for one in pl_module.parameters() if one.grad is not None]
        self.gradients = max(self.gradients, sum(map(bytes_of, found)))

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        self.sent, self.steps = self.sent + written() - self.mark, self.steps + 1
        state = [value for held in trainer.optimizers[0].state.values() for value in held.values()]
        self.optimiser = sum(bytes_of(value) for value in state if isinstance(value, Tensor))


def bytes_of(value: Tensor) -> int:
    if value.is_sparse:
        return bytes_of(value.coalesce().values())
    return value.numel() * value.element_size()


def written() -> int:
    """Bytes that this process wrote so far, to files and to other processes."""
    return int(Path("/proc/self/io").read_text().split("wchar: ")[1].split()[0])


def fitted(data_folder: str, name: str, output: Path) -> dict[str, int]:
    loss, divided = CASES[name]
    optimizer: Any = name.split(",")[0]
    settings = Optimization(optimizer=optimizer)
    model = GRU4Rec(embedding_dim=WIDTH, loss=getattr(losses, loss)(), optimization=settings, shard_items=divided)
    data = SequenceDataModule(data_folder, max_length=LENGTH, batch_size=BATCH, num_workers=0)
    held, largest, exchanged = Held(), [0], shards.exchanged

    def counted(rows: Tensor, *sizes: Any) -> Tensor:
        found = exchanged(rows, *sizes)
        largest[0] = max(largest[0], bytes_of(rows) + bytes_of(found))
        return found

    shards.exchanged = counted
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = L.Trainer(
        **quiet,
        accelerator="cpu",
        devices=2,
        strategy="ddp",
        max_epochs=1,
        limit_val_batches=0,
        enable_checkpointing=False,
        callbacks=[held],
    )
    trainer.fit(model, data)
    shards.exchanged = exchanged
    trainer.save_checkpoint(output / f"{optimizer}-{divided}.ckpt")
    return {
        "parameters": sum(map(bytes_of, model.parameters())),
        "gradients": held.gradients,
        "optimiser": held.optimiser,
        "exchanged": largest[0],
        "sent": held.sent // held.steps,
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    found = {name: fitted(sys.argv[1], name, Path(sys.argv[2])) for name in CASES}
    (Path(sys.argv[2]) / f"rank{torch.distributed.get_rank()}.json").write_text(json.dumps(found))
