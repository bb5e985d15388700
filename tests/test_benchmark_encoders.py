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
        assert sum(one[1] for one in found["operations"]) == pytest.approx(found["seconds"])
        assert any(
            name in ("network: addmm", "network: linear") and flops > 0 for name, _, flops, _ in found["operations"]
        )
        assert any("scaled_dot_product" in name and flops > 0 for name, _, flops, _ in found["operations"])
        assert any(name == "network: gelu" and moved > 0 == flops for name, _, flops, moved in found["operations"])
        assert done.stdout.count(f"| SASRec | all | {what} |") == 7  # the four, two parts and their sum
    assert "| loss: all |" in done.stdout and "| ranks: all |" in done.stdout
    total = next(
        text
        for text in done.stdout.splitlines()
        if "| SASRec | all | a training step |" in text and "| all | 100.0%" in text
    )
    took, least = (float(cell) for cell in total.split(" | ")[3:5])
    assert least > 0 and took > 0  # two measurements, so neither bounds the other beside a busy machine
    wrong = subprocess.run([*command[:3], "--encoder", "SASRek"], capture_output=True, text=True, cwd=tmp_path)
    assert wrong.returncode == 2 and "--encoder SASRek: known are BERT4Rec, " in wrong.stderr


@pytest.mark.process
def test_the_parts_of_a_test(small_folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, SCRIPT.with_name("evaluation_parts.py"), "--even-if-busy", "--threads", "1"]
    command += ["--dataset", str(small_folder), "--length", "8", "--model", "GRU4Rec", "--tests", "2"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (row,) = (json.loads(line) for line in (tmp_path / "benchmark_evaluation.jsonl").open())
    parts = ("network", "ranks", "batches", "metrics", "logging", "Lightning")
    assert min(row[part] for part in parts) > 0 and row["memory"] == 0.0  # given back before the first test only
    assert max(row[part] for part in parts) < row["all"]
    assert f"| GRU4Rec | {row['users']} | {row['network']:.1f} |" in done.stdout
