"""scripts/benchmarks/losses.py: one run on tiny sizes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "benchmarks" / "losses.py"


@pytest.mark.process
def test_a_run_on_tiny_sizes(tmp_path: Path) -> None:
    command = [sys.executable, SCRIPT, "--even-if-busy", "--threads", "1", "--rounds", "1", "--width", "8"]
    command += ["--size", "64:300", "--memory", "2000:3000", "--way", "chunked", "--way", "full"]
    command += ["--step", "500", "--step-positions", "100", "--optimizer", "adam", "--optimizer", "rowwise_adagrad"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (tmp_path / "benchmark_losses.jsonl").read_text().splitlines()]
    speed, chunked, full, *steps = rows
    assert set(speed["seconds"]) == {"chunked", "full"} and speed["errors"]["full"] < 1e-6
    assert speed["product_gflops"] > 0
    assert 0 < chunked["extra_mb"] + 12 < full["extra_mb"]  # the full way keeps 23 MB of logits more than once
    assert [row["optimizer"] for row in steps] == ["adam", "rowwise_adagrad"]
    assert steps[0]["losses"][0] == steps[1]["losses"][0]
    assert "| 64 | 300 | chunked |" in done.stdout and "| 100 | 500 | rowwise_adagrad |" in done.stdout
