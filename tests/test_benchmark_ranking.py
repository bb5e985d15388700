"""scripts/benchmark_ranking.py: a whole run at tiny sizes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "scripts" / "benchmark_ranking.py"


def test_tiny_run(tmp_path: Path) -> None:
    options = [
        "--size",
        "40:60",
        "--predict",
        "30:50:5",
        "--k",
        "5",
        "--rounds",
        "1",
        "--threads",
        "1",
        "--width",
        "16",
    ]
    command = [sys.executable, str(SCRIPT), *options, "--even-if-busy", "--out", str(tmp_path / "out.jsonl")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = {row["kind"]: row for row in map(json.loads, (tmp_path / "out.jsonl").read_text().splitlines())}
    assert set(rows) == {"scores", "test", "predict", "products"}
    assert min(rows["scores"]["seconds"].values()) > 0 and rows["scores"]["fell_back"] == 0
    assert rows["predict"]["users"] >= 30 and rows["products"]["float32"] > 0
    for name in ("| ranks | 40 | 60 |", "| ranks in blocks | 40 | 60 |", "| top-5 | 40 | 60 |", "| Trainer.predict |"):
        assert name in done.stdout
