"""scripts/benchmark_parts.py: one small run, and what it says of its numbers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from small_data import made_events

SCRIPT = Path(__file__).parents[1] / "scripts" / "benchmark_parts.py"


def run(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, SCRIPT, "--threads", "1", "--even-if-busy", *options]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder)


@pytest.mark.parametrize("model", ["SASRec", "GRU4Rec"])
def test_every_part_has_its_limit(tmp_path: Path, model: str) -> None:
    made_events(num_users=40, shortest=6).write_parquet(tmp_path / "events.parquet")
    options = ["--data", "small=events.parquet:8", "--model", model, "--rounds", "1", "--batches", "2"]
    done = run(tmp_path, *options, "--markdown", "page.md")
    assert done.returncode == 0, done.stderr
    (row,) = (json.loads(line) for line in (tmp_path / "parts.jsonl").read_text().splitlines())
    assert list(row["parts"]) == ["reader", "prepare", "batches", "encoder", "loss", "ranks"]
    assert all(found["ours"] > 0 and found["limit"] > 0 for found in row["parts"].values())
    assert 0 < row["batch_share"] < 1 and row["targets"] > 0
    page = (tmp_path / "page.md").read_text()
    loss = row["parts"]["loss"]
    assert f"| small | loss | {loss['ours']:,.4g} GFLOP/s | {loss['limit']:,.4g} GFLOP/s | " in page
    assert f"making a batch takes {row['batch_share']:.1%} of a training step" in page


def test_without_data_it_says_what_to_give(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert done.returncode == 2 and "--data NAME=FILE.parquet[:L]" in done.stderr
