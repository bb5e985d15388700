"""scripts/benchmark.py: what it makes of measurements; and one whole run of our side on small data."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from small_data import made_events

SCRIPTS = Path(__file__).parents[1] / "scripts"


@pytest.fixture(scope="module")
def bench_table() -> ModuleType:
    spec = importlib.util.spec_from_file_location("_bench_table", SCRIPTS / "_bench_table.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def measured(who: str, turn: int, speed: float, **more: Any) -> dict[str, Any]:
    return {
        "data": "d",
        "who": who,
        "windows": "newest",
        "round": turn,
        "targets_per_s": speed,
        "eval_users_per_s": 10.0,
        "peak_rss_mb": 100.0,
        "targets_per_epoch": 7,
        "eval_users": 5,
        "busy_cores_before": 0.0,
        **more,
    }


def test_ratio_pairs_the_two_measurements_of_a_round(bench_table: ModuleType) -> None:
    ours = [measured(bench_table.OURS, turn, speed) for turn, speed in enumerate([10.0, 20.0, 90.0])]
    theirs = [measured("peer", turn, speed) for turn, speed in enumerate([5.0, 4.0, 30.0])]
    assert bench_table.ratio(ours, theirs, "targets_per_s") == 3.0  # of 2, 5 and 3; the ratio of the medians is 4


def test_notes_name_the_fastest_peer_and_what_is_wrong(bench_table: ModuleType) -> None:
    rows = [
        measured(bench_table.OURS, 0, 30.0),
        measured("slow", 0, 10.0, peak_rss_mb=50.0),
        measured("fast", 0, 15.0, targets_per_epoch=8, busy_cores_before=1.5),
    ]
    text = "\n".join(bench_table.notes(rows, max_busy=0.3))
    assert "fastest peer in training: fast (15); ours/theirs 2.00" in text
    assert "lowest peak memory: slow (50); ours/theirs 2.00" in text
    assert "NOT the same work as fast: targets_per_epoch [7, 8]" in text
    assert "NOT an idle machine: before 1 of 3 measurements" in text and "1.5 cores" in text
    assert not bench_table.notes(rows[:1], max_busy=0.3)


def test_run_of_our_side(tmp_path: Path) -> None:
    file = tmp_path / "events.parquet"
    made_events(num_users=40, shortest=6).write_parquet(file)
    command = [sys.executable, SCRIPTS / "benchmark.py", "--data", f"small={file}:8", "--windows", "newest"]
    options = ["--rounds", "1", "--epochs", "2", "--threads", "1", "--even-if-busy", "--out", tmp_path / "out.jsonl"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (row,) = map(json.loads, (tmp_path / "out.jsonl").read_text().splitlines())
    assert row["eval_users"] == row["num_users"] == 40 and len(row["epoch_s"]) == 2
    assert min(row[name] for name in ("targets_per_s", "eval_users_per_s", "peak_rss_mb", "preparation_s")) > 0
    assert f"| small | recsys-lab | newest | {row['targets_per_s']:,.0f} |" in done.stdout
