"""scripts/benchmarks/sharding.py: one whole run on a small catalogue."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from own_process import alone

SCRIPT = Path(__file__).parents[1] / "scripts" / "benchmarks" / "sharding.py"


@pytest.mark.process
@pytest.mark.slow
def test_each_way_is_measured_and_divided_tables_are_shares_of_the_whole(tmp_path: Path) -> None:
    out, page = tmp_path / "out.jsonl", tmp_path / "page.md"
    sizes = ("--items", "1000", "--dim", "16", "--steps", "2", "--rounds", "1", "--threads", "1", "--even-if-busy")
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *sizes, "--out", str(out), "--markdown", str(page)],
        capture_output=True,
        text=True,
        env=alone(),
    )
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    table = {(row["optimizer"], row["processes"], row["divided"]): row["table_mb"] for row in rows}
    assert len(rows) == len(table) == 8
    for optimizer in ("adam", "rowwise_adagrad"):
        whole = table[optimizer, 1, False]
        assert table[optimizer, 2, False] == whole
        assert 0.5 <= table[optimizer, 2, True] / whole <= 0.55 and 0.33 <= table[optimizer, 3, True] / whole <= 0.37
    assert "| adam | 50000000 | 12.8 | 6.4 | 3.2 | 1.6 |" in page.read_text()
