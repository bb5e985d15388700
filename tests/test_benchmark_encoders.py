"""scripts/benchmarks/encoders.py: one run on few steps."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "benchmarks" / "encoders.py"


@pytest.mark.process
def test_a_run_of_few_steps(small_folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, SCRIPT, "--even-if-busy", "--threads", "1", "--dataset", str(small_folder)]
    command += ["--length", "8", "--batch-size", "2", "--steps", "2", "--width", "16"]
    for name in ("SASRec", "FMLPRec", "BERT4Rec"):
        command += ["--encoder", name]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = {(row := json.loads(line))["encoder"]: row for line in (tmp_path / "benchmark_encoders.jsonl").open()}
    trains_on = {"SASRec": "all positions", "FMLPRec": "last position", "BERT4Rec": "masked events"}
    assert {name: row["trains_on"] for name, row in rows.items()} == trains_on
    for row in rows.values():
        assert 0 < row["targets_s"] <= row["tokens_s"] and row["encode"] + row["loss"] < 1 and row["parameters"] > 0
    assert "| SASRec | all | all positions |" in done.stdout
    in_turn = [*command[:-6], "--encoder", "SASRec", "--fields", "none", "--fields", "event_type"]
    done = subprocess.run(in_turn, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with_ids, with_fields = done.stdout.strip().splitlines()[-2:]
    assert with_ids.startswith("| SASRec | none | all positions |") and " | 1.00 | " in with_ids
    assert with_fields.startswith("| SASRec | event_type | all positions |")
    spent = [*command[:-6], "--encoder", "SASRec", "--operations", "4"]
    done = subprocess.run(spent, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    parts = json.loads((tmp_path / "benchmark_encoders.jsonl").read_text().splitlines()[-1])["parts"]
    for what, found in parts.items():
        assert sum(seconds for _, seconds, _ in found["operations"]) == pytest.approx(found["seconds"])
        assert any(name == "aten::addmm" and flops > 0 for name, _, flops in found["operations"])
        assert done.stdout.count(f"| SASRec | all | {what} |") == 5  # the four and their sum
    wrong = subprocess.run([*command[:3], "--encoder", "SASRek"], capture_output=True, text=True, cwd=tmp_path)
    assert wrong.returncode == 2 and "--encoder SASRek: known are BERT4Rec, " in wrong.stderr
