"""`recsys-lab diagnose calibration`: files, the table, errors; measures in the command line."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from test_cli_runs import fit

from recsys_lab.cli import main


@pytest.fixture(scope="module")
def finished(small_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    assert fit(small_folder, root, "--model.optimization.lr", "0.02", "--trainer.max_epochs", "12") == 0
    return root / "small" / "sasrec" / "seed0"


def test_writes_numbers_and_a_page(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()}
    assert main(["diagnose", "calibration", str(finished), "--num-bins", "5"]) == 0
    printed = capsys.readouterr().out
    assert {path: path.read_bytes() for path in before} == before
    found = json.loads((finished / "calibration" / "calibration.json").read_text())
    assert found["fit"]["nll_after"] <= found["fit"]["nll_before"]
    scaled = found["test"]["after"]
    for text in (f"{found['temperature']:.4g}", f"{scaled['nll']:.4f}", f"{scaled['ece']:.4f}", "reliability.html"):
        assert text in printed
    for when in ("before", "after"):
        for kind, metric in (("equal_width", "ece"), ("equal_mass", "ece_equal_mass")):
            bins = found["test"]["bins"][when][kind]
            assert sum(bins["count"]) == 9 and len(bins["count"]) <= 5
            assert bins["error"] == found["test"][when][metric]
    page = (finished / "calibration" / "reliability.html").read_text()
    assert page.count("<svg") == 2 and not re.search("https?:", page) and "<script" not in page
    dots = sum(len(bins["count"]) for when in found["test"]["bins"].values() for bins in when.values())
    assert page.count('aria-roledescription="point"') == dots
    targets = sum(map(int, re.findall(r"<title>(\d+) targets?: called", page)))
    assert targets == 4 * 9, "both kinds of bins, before and after, over 9 targets"


def test_errors_are_named(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cases = [
        ([str(tmp_path)], "is not a run folder"),
        ([str(finished), "--num_bins", "0"], "num_bins: must be at least 1"),
        ([str(finished), "--checkpoint", str(tmp_path / "gone.ckpt")], "gone.ckpt"),
        ([str(finished), "--output", str(finished / "config.yaml")], "can't write to"),
    ]
    for arguments, message in cases:
        assert main(["diagnose", "calibration", *arguments]) == 2
        text = capsys.readouterr().err
        assert message in text and "Traceback" not in text


def test_lists_are_measured_unless_told_not_to(finished: Path) -> None:
    metrics = json.loads((finished / "metrics.json").read_text())
    assert "test/coverage@10" in metrics and "val/coverage@10" not in metrics and "test/nll" not in metrics
    assert main(["validate", str(finished), "--evaluation.measures+", "Calibration"]) == 0
    metrics = json.loads((finished / "validate" / "metrics.json").read_text())
    assert {"val/coverage@10", "val/gini@10", "val/nll", "val/ece"} <= metrics.keys()
    assert main(["test", str(finished), "--evaluation.measures", "null"]) == 0
    assert "test/coverage@10" not in json.loads((finished / "test" / "metrics.json").read_text())
