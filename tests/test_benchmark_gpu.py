"""scripts/benchmarks/gpu.py on a processor: each kind of measurement on a few steps, and the page."""

from __future__ import annotations

import importlib
import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "benchmarks" / "gpu.py"


@pytest.fixture(scope="module")
def side() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPT.parent)
        yield importlib.import_module("gpu_side")


@pytest.fixture
def job(tmp_path: Path) -> dict[str, Any]:
    settings = {"device": "cpu", "size": "tiny", "width": 8, "rounds": 1, "threads": 1, "compile": False}
    return {**settings, "folder": str(tmp_path), "data": "ml-1m", "encoder": "SASRec"}


def test_epochs_through_lightning(side: Any, job: dict[str, Any]) -> None:
    rows = side.measure_fit({**job, "loss": "SampledSoftmax"})["rows"]
    assert [row["precision"] for row in rows] == ["float32", "bf16"]
    for row in rows:
        assert row["targets_s"] > 0 and row["users_s"] > 0 and row["of_peak"] > 0 and 0 < row["between_steps"] < 1


def test_steps_on_one_batch(side: Any, job: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    rows = side.measure_step({**job, "encoder": "GRU4Rec"})["rows"]
    assert [(row["precision"], row["way"], row["failed"]) for row in rows] == [
        ("float32", "eager", ""),
        ("bf16", "eager", ""),
    ]
    assert rows[0]["targets_s"] == pytest.approx(16 * 10 / rows[0]["step_s"])

    def out_of_memory(*_: Any) -> None:
        raise RuntimeError("out of memory\nby a lot")

    monkeypatch.setattr(side, "one_step", out_of_memory)
    failed = side.measure_step(job)["rows"]
    assert [row["failed"] for row in failed] == ["RuntimeError: out of memory"] * 2


def test_two_runs_with_one_seed(side: Any, job: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    assert [row["equal"] for row in side.measure_same({**job, "encoders": ["SASRec"]})["rows"]] == [True, True]
    seeds = itertools.count()
    monkeypatch.setattr("lightning.seed_everything", lambda *_, **__: __import__("torch").manual_seed(next(seeds)))
    monkeypatch.setattr("recsys_lab.models.randomness.run_seed", lambda: next(seeds))
    assert [row["equal"] for row in side.measure_same({**job, "encoders": ["SASRec"]})["rows"]] == [False, False]


@pytest.mark.process
def test_the_page(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--even-if-busy", "--threads", "1", "--size", "tiny", "--rounds", "1"]
    wrong = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert wrong.returncode == 2 and "`--size tiny --device cpu` tries the script without one" in wrong.stderr
    command += ["--device", "cpu", "--only", "loss", "ddp", "--minutes", "5"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (tmp_path / "benchmark_gpu.jsonl").open()]
    assert [row["way"] for row in rows if row["table"] == "loss"] == ["chunked", "full", "torch's own"]
    assert [row["devices"] for row in rows if row["table"] == "ddp" and row["targets_s"] > 0] == [1, 2]
    assert "| 64 | 300 | torch's own |" in done.stdout and "| SASRec | 2 |" in done.stdout
    late = subprocess.run([*command, "--minutes", "0"], capture_output=True, text=True, cwd=tmp_path)
    assert "Not measured: loss (no time was left); ddp ml-1m SASRec (no time was left)" in late.stdout
