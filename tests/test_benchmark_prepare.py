"""scripts/benchmarks/prepare.py: one whole run on a small log, and what it makes of measurements."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "benchmarks" / "prepare.py"


def run(*arguments: str) -> None:
    done = subprocess.run([sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.process
def test_a_small_log_is_measured_on_both_sides(tmp_path: Path) -> None:
    out, markdown = tmp_path / "out.jsonl", tmp_path / "table.md"
    sizes = ("--events", "2e4", "--items", "50", "--events-per-user", "40", "--ids", "text", "--rounds", "1")
    places = ("--out", str(out), "--markdown", str(markdown), "--work-dir", str(tmp_path), "--even-if-busy")
    run(*sizes, *places)
    ours, theirs = (json.loads(line) for line in out.read_text().splitlines())
    assert (ours["who"], theirs["who"]) == ("recsys-lab", "one sort")
    assert 15_000 < ours["num_events"] <= ours["events"] == 20_000 and 0 < ours["num_items"] <= 50
    for name in ("seconds", "peak_rss_mb", "splits_s", "splits_peak_rss_mb", "open_ms", "first_batch_s", "cores"):
        assert ours[name] > 0
    assert theirs["seconds"] > 0 and theirs["peak_rss_mb"] > 0
    text = markdown.read_text()
    assert "| 20,000 | 500 | 50 | " in text and f"| {ours['seconds'] / theirs['seconds']:.2f} |" in text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.jsonl", "table.md"]  # nothing is left


def test_the_made_log_is_in_the_order_of_time_and_popular_items_lead(tmp_path: Path) -> None:
    job = {"kind": "make_log", "log": str(tmp_path / "log"), "ids": "numbers", "seed": 1}
    job |= {"events": 30_000, "users": 300, "items": 100}
    subprocess.run([sys.executable, str(SCRIPT), "--job", json.dumps(job)], check=True, capture_output=True)
    log = pl.read_parquet(tmp_path / "log" / "*.parquet")
    assert log.height == 30_000 and log["timestamp"].is_sorted()
    popularity = log["item_id"].value_counts(sort=True)["count"].to_numpy()
    assert len(popularity) == 100 and popularity[0] > 10 * np.median(popularity)
    assert log["user_id"].n_unique() > 250
