"""Trains a small model with a row-sparse optimiser on two processes; test_row_sparse_two_processes.py starts it."""

from __future__ import annotations

import sys
from pathlib import Path

import lightning as L
import torch
from torch import Tensor

from recsys_lab.contracts import Negatives, NegativeSampler
from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.losses import SampledSoftmax
from recsys_lab.models import Optimization, SASRec
from recsys_lab.ops import row_sparse

BATCH = 2


class SameNegatives(NegativeSampler):
    """Always the same, on every process: then two processes take the step of one with their batches together."""

    def prepare(self, item_counts: Tensor) -> None: ...

    def sample(self, target_ids: Tensor, generator: torch.Generator | None) -> Negatives:
        return Negatives(torch.arange(1, 9), torch.zeros(8), torch.zeros(len(target_ids)))


def run(data_folder: str, output: Path, optimizer: str, devices: int, batch_size: int, way: str = "") -> None:
    L.seed_everything(0)
    data = SequenceDataModule(data_folder, max_length=5, batch_size=batch_size, seed=0)
    # a key's bias has a gradient of rounding errors only, which Adam would scale up: the dense part stands still
    optimization = Optimization(optimizer, lr=1e-30, table_lr=0.05)  # type: ignore[arg-type]
    model = SASRec(
        embedding_dim=8,
        num_layers=1,
        dropout=0.0,
        loss=SampledSoftmax(),
        negatives=SameNegatives(),
        optimization=optimization,
    )
    trainer = L.Trainer(
        accelerator="cpu",
        devices=devices,
        strategy="ddp" if devices > 1 else "auto",
        max_epochs=2,
        gradient_clip_val=0.5,
        default_root_dir=output,
        logger=False,
        limit_val_batches=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, data)
    state = {"weights": model.state_dict(), "steps": trainer.global_step}
    torch.save(state, output / f"{optimizer}{way}-{devices}-rank{trainer.global_rank}.pt")


if __name__ == "__main__":
    torch.set_num_threads(1)
    for rule in ("rowwise_adagrad", "sparse_adam"):
        run(sys.argv[1], Path(sys.argv[2]), rule, devices=2, batch_size=BATCH)
    row_sparse.adds_sparse_gradients = lambda: False  # as where the backend is NCCL
    for rule in ("rowwise_adagrad", "sparse_adam"):
        run(sys.argv[1], Path(sys.argv[2]), rule, devices=2, batch_size=BATCH, way="-rows")
