"""Mistakes in the words of a fit: one line, before anything is trained, with the option as it is typed and nothing else
around it."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
from lightning.pytorch.accelerators import CUDAAccelerator, MPSAccelerator

from recsys_lab.cli import main

FIT = ["fit", "--model", "SASRec", "--model.embedding_dim", "8", "--trainer.enable_progress_bar", "false"]
CPU = ["--trainer.accelerator", "cpu"]
NEGATIVES = ["--model.loss", "BCE", "--model.negatives", "UniformNegatives", "--model.negatives.num_negatives"]


def said(words: list[str], capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines of a refusal, without warnings of libraries: they fail the test."""
    capsys.readouterr()
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*serialize.*")
        assert main(words) == 2
    return capsys.readouterr().err.splitlines()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--trainer.precision", "64-true"], "--trainer.precision 64-true keeps the weights as 64-bit numbers"),
        (["--trainer.precision", "bf16-true"], "--trainer.precision bf16-true keeps the weights as 16-bit numbers"),
        (["--trainer.devices", "2,3"], "--trainer.devices 2,3: on a CPU this is a number of processes, such as 2"),
        (["--evaluation.cutoffs", "[0]"], "--evaluation.cutoffs holds a wrong value: each must be at least 1, not 0"),
        ([*NEGATIVES, "5000"], "--model.negatives.num_negatives is 5,000, and there are "),
        (
            ["--trainer.accelerator", "gpo"],
            "--trainer.accelerator gpo: there is no such accelerator. Did you mean 'gpu'?",
        ),
        (
            ["--trainer.callbacks+=StochasticWeightAveraging", "--trainer.callbacks.swa_lrs", "0.01"],
            "StochasticWeightAveraging puts its average in place after the last epoch",
        ),
    ],
)
def test_one_line(
    words: list[str], text: str, small_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--data.dataset", str(small_folder), "--run.folder", str(tmp_path / "run")]
    lines = said([*FIT, *where, *CPU, *words], capsys)
    assert [line for line in lines if line.startswith("recsys-lab: error: " + text)] == lines[-1:], lines
    assert not [line for line in lines if "monitor" in line or "arning" in line], lines
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["gpu", "cuda", "mps"])
def test_a_device_that_is_not_there(
    name: str, small_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for kind in (CUDAAccelerator, MPSAccelerator):
        monkeypatch.setattr(kind, "is_available", staticmethod(lambda: False))
    line = said([*FIT, "--data.dataset", str(small_folder), "--trainer.accelerator", name], capsys)[-1]
    assert line.startswith(f"recsys-lab: error: --trainer.accelerator {name}: this machine has no such device")
    assert "it has: cpu. Leave the option out" in line


@pytest.mark.parametrize("command", ["fit", "test"])
def test_the_model_is_missing(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    error, hint = said([command, "--data.dataset", "x"], capsys)
    assert error.startswith("recsys-lab: error: --model is missing: name a class (") and "--config" in error
    assert hint == f"All options: recsys-lab {command} --help"


def test_the_hint_names_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--model"], ["--nothing", "1"], ["--model", "Nothing"]):
        assert said(["fit", *words], capsys)[-1] == "All options: recsys-lab fit --help"
