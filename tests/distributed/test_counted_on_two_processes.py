"""Every counted baseline has the numbers of one process on two."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from count import count_all
from own_process import run_processes

from recsys_lab.runs.baselines import MANDATORY, ON_REQUEST


@pytest.mark.process
def test_two_processes_give_the_numbers_of_one(small_folder: Path, tmp_path: Path) -> None:
    run_processes("count.py", small_folder, tmp_path / "two.json")
    two, one = json.loads((tmp_path / "two.json").read_text()), count_all(str(small_folder), processes=1)
    assert len(one) == len(MANDATORY) + len(ON_REQUEST) and one.keys() == two.keys()
    for name, metrics in one.items():
        assert {"val/ndcg@10", "test/ndcg@10"} <= metrics.keys() and metrics == two[name], name
