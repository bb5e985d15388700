"""scripts/benchmarks/prepare_tasks.py and shards.py: one whole run of each on a small log, but for training."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts" / "benchmarks"


def run(script: str, folder: Path, *arguments: str) -> tuple[list[dict[str, Any]], str]:
    """The measurements, and the page."""
    places = ("--out", str(folder / "out.jsonl"), "--markdown", str(folder / "page.md"), "--even-if-busy")
    command = [sys.executable, str(SCRIPTS / script), *arguments, *places]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()], done.stdout


@pytest.mark.process
def test_tasks_are_measured_beside_one_process(tmp_path: Path) -> None:
    size = ("--events", "2e4", "--items", "50", "--shards", "3", "--work-dir", str(tmp_path))
    rows, page = run("prepare_tasks.py", tmp_path, *size)
    assert [row["what"] for row in rows] == ["one process", "tasks", "cutting, one process", "reading an epoch"]
    assert rows[0]["num_events"] == rows[1]["num_events"] > 10_000 and rows[3]["windows"] > 100
    assert all(row["processor_s"] > 0 and row["peak_mb"] > 10 for row in rows)
    assert "| 20,000 | 50 | tasks | " in page
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.jsonl", "page.md"]  # nothing is left


@pytest.mark.process
def test_each_round_is_measured(tmp_path: Path) -> None:
    size = ("--events", "2e4", "--items", "50", "--shards", "3", "--work-dir", str(tmp_path), "--by-round")
    rows, _ = run("prepare_tasks.py", tmp_path, *size)
    names = [row["what"] for row in rows]
    assert names[0] == "plan, 1 tasks" and names[-1] == "write, 1 tasks" and "sorted, 3 tasks" in names


@pytest.mark.process
def test_reading_is_measured_from_a_folder_and_from_s3(tmp_path: Path) -> None:
    rows, page = run("shards.py", tmp_path, "--events", "20000", "--shards", "8", "--epochs", "0", "--rounds", "1")
    assert [row.get("way") for row in rows] == [None, "whole", "shards", "S3, first epoch", "S3, second epoch"]
    assert len({row["windows"] for row in rows[1:]}) == 1
    assert "| shards | " in page and "| 1.00 | 1.00 |" in page
