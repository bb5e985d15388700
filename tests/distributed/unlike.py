"""Two processes, of which the second is not set up as the first; test_unlike_processes.py starts it.

python unlike.py <prepared folder> <another> <output folder>
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import lightning as L
import torch

from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.models import SASRec
from recsys_lab.words import RecsysLabError


def said(folder: str, seed: int = 0, width: int = 8, **settings: Any) -> str:
    """What stops the fit."""
    L.seed_everything(seed, verbose=False)
    data = SequenceDataModule(folder, **{"max_length": 5, "batch_size": 2, **settings})
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    trainer = L.Trainer(accelerator="cpu", devices=2, strategy="ddp", max_steps=1, limit_val_batches=0, **quiet)
    try:
        trainer.fit(SASRec(embedding_dim=width, num_layers=1), data)
    except RecsysLabError as error:
        return str(error)
    return ""


if __name__ == "__main__":
    torch.set_num_threads(1)
    here, other, output = sys.argv[1:]
    second = os.environ.get("LOCAL_RANK", "0") == "1"
    lines = [
        said(here),
        said(here, batch_size=3 if second else 2),
        said(here, width=16 if second else 8),
        said(here, seed=1 if second else 0),
        said(other if second else here),
    ]
    (Path(output) / f"rank{int(second)}.txt").write_text("\n".join(lines))
