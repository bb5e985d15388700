"""`--trainer.strategy ddp_spawn` gives the numbers of `ddp`, and says nothing that does not apply."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

OPTIONS = [
    "--model.embedding_dim",
    "8",
    "--data.max_length",
    "5",
    "--data.batch_size",
    "4",
    "--trainer.max_epochs",
    "2",
]
QUIET = ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false", "--trainer.devices", "2"]


def fit(data: Path, folder: Path, strategy: str) -> str:
    """-> what the command wrote to both streams."""
    command = [sys.executable, "-m", "recsys_lab.cli", "fit", "--model", "SASRec", *OPTIONS, *QUIET]
    command += ["--trainer.strategy", strategy, "--data.dataset", str(data), "--run.folder", str(folder)]
    done = subprocess.run(
        command,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    return done.stdout


@pytest.mark.process
def test_spawned_processes_give_the_numbers_of_started_ones(small_folder: Path, tmp_path: Path) -> None:
    said = fit(small_folder, tmp_path / "spawned", "ddp_spawn")
    fit(small_folder, tmp_path / "started", "ddp")
    spawned, started = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("spawned", "started"))

    def numbers(metrics: dict[str, float]) -> dict[str, float]:
        return {name: value for name, value in metrics.items() if "second" not in name}

    assert "test/ndcg@10" in spawned and numbers(spawned) == numbers(started)
    assert "sync_dist" not in said and "Traceback" not in said
    manifest = json.loads((tmp_path / "spawned" / "manifest.json").read_text())
    assert manifest["stopped_by"] == "max_epochs"
