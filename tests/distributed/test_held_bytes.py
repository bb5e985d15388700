"""`recsys-lab estimate` with a divided table says what each of two processes really holds, sends and writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from held import BATCH, CASES, LENGTH, WIDTH
from own_process import run_processes

from recsys_lab.runs.fit.fit_estimate import estimate

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def output(small_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("held")
    run_processes("held.py", small_folder, found, timeout=300)
    return found


@pytest.mark.parametrize("measure", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_the_bytes_are_those_of_a_real_run(name: str, measure: bool, output: Path, small_folder: Path) -> None:
    loss, divided = CASES[name]
    optimizer = name.split(",")[0]
    words = ["--model", "GRU4Rec", "--model.embedding_dim", str(WIDTH), "--model.loss", loss]
    words += ["--model.optimization.optimizer", optimizer, "--model.shard_items", str(divided).lower()]
    words += ["--data.dataset", str(small_folder), "--data.max_length", str(LENGTH), "--data.batch_size", str(BATCH)]
    said = estimate([*words, "--trainer.devices", "2", "--trainer.accelerator", "cpu"], None, measure, 0.1)
    ranks: list[dict[str, Any]] = [json.loads((output / f"rank{rank}.json").read_text())[name] for rank in range(2)]
    most = {key: max(rank[key] for rank in ranks) for key in ranks[0]}
    assert said.memory["parameters"] == most["parameters"]
    assert said.memory["optimiser"] == pytest.approx(most["optimiser"], rel=1e-2 if not measure else 0)
    if optimizer == "adam":
        assert said.memory["gradients"] == most["gradients"]
    else:  # of rows, as many as a batch has at most
        assert most["gradients"] <= said.memory["gradients"]
    assert most["exchanged"] <= said.memory["exchange"] < 200_000
    assert most["sent"] == pytest.approx(said.sent_per_step, rel=0.25)
    files = output.glob(f"{optimizer}-{divided}*")
    size = sum(file.stat().st_size for one in files for file in ([one] if one.is_file() else one.iterdir()))
    assert said.disk["checkpoints"] == pytest.approx(2 * size, rel=0.1 if measure else 0.5)
