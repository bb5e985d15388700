"""scripts/benchmarks/scaling.py: one whole run on a small catalogue, and what it computes."""

from __future__ import annotations

import json
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest
from own_process import alone

BENCHMARKS = Path(__file__).parents[1] / "scripts" / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
import scaling  # noqa: E402


@pytest.mark.process
@pytest.mark.slow
def test_each_way_is_measured(tmp_path: Path) -> None:
    out, page = tmp_path / "out.jsonl", tmp_path / "page.md"
    sizes = ("--items", "500", "--dim", "16", "--length", "20", "--batch", "8", "--steps", "2", "--rounds", "1")
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "scaling.py"), *sizes]
        + ["--even-if-busy", "--out", str(out), "--markdown", str(page)],
        capture_output=True,
        text=True,
        env=alone(),
    )
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(rows) == 9
    for row in rows:
        assert (row["computed_mb"] > 0) == (row["processes"] == 2)
        if row["kind"] != "sharded, sampled" and row["processes"] == 2:  # there rows occur twice
            assert row["sent_mb"] == pytest.approx(row["computed_mb"], rel=0.3)
    assert page.read_text().count("| dense |") >= 6


def test_more_to_send_and_slower_cables_scale_less() -> None:
    rates = {"tflops": 50.0, "inside": 150.0, "between": 20.0}

    def of(**changed: float) -> list[float]:
        lines = scaling.projection([], Namespace(**{**rates, **changed}))[3:]
        return [float(line.split("|")[-2]) for line in lines]

    first, slower = of(), of(inside=15.0, between=2.0)
    assert first[::3] == slower[::3] == [1.0] * 4, "one GPU sends nothing"
    assert all(after <= before for before, after in zip(first, slower, strict=True))
    assert sum(after < before for before, after in zip(first, slower, strict=True)) >= 6
    assert max(first) <= 64
