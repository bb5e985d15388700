"""Every counted baseline has the numbers of one process on two."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from count import count_all

from recsys_lab.runs.baselines import MANDATORY, ON_REQUEST


@pytest.mark.process
def test_two_processes_give_the_numbers_of_one(small_folder: Path, tmp_path: Path) -> None:
    clean = {k: v for k, v in os.environ.items() if k not in ("MASTER_PORT", "MASTER_ADDR", "LOCAL_RANK", "WORLD_SIZE")}
    script = Path(__file__).with_name("count.py")
    done = subprocess.run(
        [sys.executable, str(script), str(small_folder), str(tmp_path / "two.json")],
        env={**clean, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    two, one = json.loads((tmp_path / "two.json").read_text()), count_all(str(small_folder), processes=1)
    assert len(one) == len(MANDATORY) + len(ON_REQUEST) and one.keys() == two.keys()
    for name, metrics in one.items():
        assert {"val/ndcg@10", "test/ndcg@10"} <= metrics.keys() and metrics == two[name], name
