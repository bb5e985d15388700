"""Counts every baseline on any number of processes; test_counted_on_two_processes.py starts it.

    python count.py <prepared folder> <output file>

Writes what each one's validation and test found: baseline -> metric -> value.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import lightning as L
import torch

from recsys_lab.config import from_config
from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.evaluation.callback import RankingEvaluation
from recsys_lab.runs.baselines import MANDATORY, ON_REQUEST, baseline_name


def count(config: dict[str, Any], data: SequenceDataModule, processes: int) -> dict[str, float]:
    trainer = L.Trainer(
        accelerator="cpu",
        devices=processes,
        strategy="ddp" if processes > 1 else "auto",
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=[RankingEvaluation()],
    )
    trainer.fit(model := from_config(config), data)
    found = {name: float(value) for name, value in trainer.callback_metrics.items()}
    return found | trainer.test(model, data, verbose=False)[0]


def count_all(folder: str, processes: int) -> dict[str, dict[str, float]]:
    data = SequenceDataModule(folder, max_length=5, eval_batch_size=4)
    return {baseline_name(config): count(config, data, processes) for config in (*MANDATORY, *ON_REQUEST)}


if __name__ == "__main__":
    torch.set_num_threads(1)
    found = count_all(sys.argv[1], processes=2)
    if torch.distributed.get_rank() == 0:
        Path(sys.argv[2]).write_text(json.dumps(found))
