"""scripts/benchmarks/one_list.py: one whole run on a small catalogue."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "benchmarks" / "one_list.py"


@pytest.mark.process
def test_each_model_and_question_is_measured(tmp_path: Path) -> None:
    out, page = tmp_path / "out.jsonl", tmp_path / "page.md"
    sizes = ("--items", "60", "--questions", "3", "--rounds", "1", "--threads", "1", "--even-if-busy")
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *sizes, "--out", str(out), "--markdown", str(page)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(row["model"], row["question"]) for row in rows] == [
        (model, question) for model in ("SASRec", "GRU4Rec") for question in ("new", "next event")
    ]
    for clock in ("wall", "cpu"):  # never one beside the other: several threads use more processor time than passes
        assert all(0 < row[f"{clock}_p50_ms"] <= row[f"{clock}_p99_ms"] for row in rows)
    assert "| SASRec | new |" in page.read_text()
