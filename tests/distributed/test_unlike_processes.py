"""Processes that are to train one model and are set up differently: one line, on each of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from own_process import run_processes
from small_data import made_events, prepared


@pytest.mark.process
def test_the_difference_is_named(small_folder: Path, tmp_path: Path) -> None:
    other = prepared(tmp_path / "other", made_events(seed=1)).path
    run_processes("unlike.py", small_folder, other, tmp_path, timeout=300)
    first, second = ((tmp_path / f"rank{rank}.txt").read_text().split("\n") for rank in range(2))
    assert first == second
    equal, batch, width, seed, data = first
    assert equal == ""
    assert "process 1 is not set up as process 0" in batch and "data.batch_size is 3 and not 2" in batch
    assert batch.endswith("Start every process with the same options")
    assert "model.embedding_dim is 16 and not 8" in width
    assert "random seed is 1 and not 0" in seed
    assert "prepared data is " in data and data.endswith("options on a copy of the same prepared folder")
