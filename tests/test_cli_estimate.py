"""`recsys-lab estimate`: what it says of a fit holds for the fit, and nothing is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from test_cli_runs import fit

from recsys_lab.cli import main
from recsys_lab.data.batches.epoch_size import drawn_lengths
from recsys_lab.runs.fit.estimate_text import duration_of, size_of
from recsys_lab.runs.fit.few_steps import PeakMemory
from recsys_lab.runs.fit.formulas import model_size

SMALL = ["--model", "GRU4Rec", "--model.embedding_dim", "16", "--data.max_length", "10", "--data.batch_size", "8"]


@pytest.fixture
def estimated(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> dict[str, Any]:
        assert main(["estimate", *words, "--trainer.accelerator", "cpu", "--json"]) == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        assert list(tmp_path.iterdir()) == [], "nothing is written"
        return found

    return call


def test_what_it_says_is_what_the_fit_takes(estimated: Any, small_folder: Path, tmp_path: Path) -> None:
    words = [*SMALL, "--data.dataset", str(small_folder)]
    said = estimated(*words, "--seconds", "0.5")
    assert said["measured_steps"] >= 1 and said["processes"] == 1 and said["model"] == "GRU4Rec"
    assert sum(said["memory"].values()) == said["memory_total"] > 50_000_000
    assert sum(said["seconds"].values()) == pytest.approx(said["seconds_per_epoch"]) and said["seconds_per_epoch"] > 0
    root = tmp_path / "runs"
    assert fit(small_folder, root, *words, "--trainer.max_epochs", "1") == 0
    (run,) = root.rglob("seed0")
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    weights = {
        one.untyped_storage().data_ptr(): one for one in checkpoint["state_dict"].values()
    }  # some have two names
    assert said["memory"]["parameters"] == sum(one.numel() * one.element_size() for one in weights.values())
    state = checkpoint["optimizer_states"][0]["state"].values()
    assert said["memory"]["optimiser"] == sum(v.numel() * v.element_size() for one in state for v in one.values())
    kept = sum(path.stat().st_size for path in (run / "checkpoints").iterdir())
    assert said["disk"]["checkpoints"] == pytest.approx(kept, rel=0.1)  # the states of callbacks
    assert said["steps_per_epoch"] == checkpoint["global_step"]
    assert said["disk"]["prepared data"] == sum(p.stat().st_size for p in small_folder.rglob("*") if p.is_file())


def test_formulas_run_nothing(estimated: Any, small_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [*SMALL, "--data.dataset", str(small_folder)]
    measured = estimated(*words, "--seconds", "0.1")
    monkeypatch.setattr("recsys_lab.models.training_steps.TrainingSteps.training_step", None)
    said = estimated(*words, "--measure", "false")
    assert said["measured_steps"] == 0
    for name in ("parameters", "gradients", "loss", "data"):
        assert said["memory"][name] == measured["memory"][name], name
    assert said["memory"]["optimiser"] == pytest.approx(measured["memory"]["optimiser"], rel=0.01)
    assert said["steps_per_epoch"] == measured["steps_per_epoch"]
    assert said["disk"]["checkpoints"] == pytest.approx(measured["disk"]["checkpoints"], rel=0.5)


def test_twice_the_speed_is_half_the_time(estimated: Any, small_folder: Path) -> None:
    words = [*SMALL, "--data.dataset", str(small_folder), "--measure", "false"]
    slow, fast = (estimated(*words, "--tflops", rate) for rate in ("0.1", "0.2"))
    assert slow["seconds_per_epoch"] == pytest.approx(2 * fast["seconds_per_epoch"])


def test_a_log_that_is_not_prepared(estimated: Any) -> None:
    stated = ["--users", "1_000_000", "--items", "50_000_000", "--length", "50", "--measure", "false"]
    said = estimated(*SMALL, *stated)
    assert said["events"] == 50_000_000
    assert said["memory"]["parameters"] > 50_000_001 * 16 * 4
    sparse = estimated(*SMALL, *stated, "--model.loss", "BCE", "--model.optimization.optimizer", "sparse_adam")
    assert sparse["memory"]["gradients"] < said["memory"]["gradients"] / 1000
    adagrad = estimated(*SMALL, *stated, "--model.loss", "BCE", "--model.optimization.optimizer", "rowwise_adagrad")
    assert adagrad["memory"]["optimiser"] < sparse["memory"]["optimiser"] / 20
    eight = estimated(*SMALL, *stated, "--trainer.devices", "8", "--trainer.num_nodes", "4")
    assert eight["processes"] == 32 and eight["memory"]["exchange"] == eight["memory"]["gradients"]
    assert eight["steps_per_epoch"] == pytest.approx(said["steps_per_epoch"] / 32, rel=0.01)


def test_made_data_stand_in_for_it(estimated: Any) -> None:
    said = estimated(*SMALL, "--users", "2_000", "--items", "300", "--events", "20_000", "--seconds", "0.1")
    assert said["measured_steps"] >= 8 and said["items"] == 300 and said["steps_per_epoch"] > 200


def test_people_read_a_page(small_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["estimate", *SMALL, "--data.dataset", str(small_folder), "--measure", "false"]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("GRU4Rec on small: ") and "memory of a process" in shown and "By formulas" in shown


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--users", "5"], "needs --users, --items, and --events or --length"),
        (["--users", "5", "--items", "5", "--events", "6"], "at least 3 of each"),
        (["--model", "Popularity", "--data.dataset", "SMALL"], "counts and trains nothing"),
        (["--seconds", "0"], "argument --seconds: must be above 0"),
        (["--model", "SASRec", "--model.embedding_dimm", "5"], "embedding_dim"),
        (
            ["--users", "9_000_000", "--items", "9_000_000", "--length", "9", "--model", "SASRec"],
            "prepare the log first, or --measure false",
        ),
    ],
)
def test_mistakes_are_one_line(
    words: list[str], says: str, small_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["estimate", *(str(small_folder) if word == "SMALL" else word for word in words)]) == 2
    assert says in capsys.readouterr().err


def test_drawn_histories_have_the_events_asked_for() -> None:
    lengths = drawn_lengths(10_000, 500_000)
    assert lengths.min() >= 3 and lengths.sum() == pytest.approx(500_000, rel=0.02) and lengths.max() > 500


def test_the_peak_is_that_of_what_came_after() -> None:
    large = torch.ones(30_000_000)
    del large
    peak = PeakMemory(torch.device("cpu"))
    before = peak.bytes()
    kept = torch.ones(20_000_000)
    assert peak.bytes() - before > 60_000_000 and len(kept)


def test_a_model_on_no_device_has_its_size() -> None:
    from recsys_lab.data_spec import DataSpec
    from recsys_lab.models import SASRec

    spec, sizes = DataSpec("x", 999, 10, 20, True, 1.0, "", "", ""), []
    for device in ("meta", "cpu"):
        model = SASRec(embedding_dim=8)
        with torch.device(device):
            model._build(spec)
        sizes.append(model_size(model).parameters)
    assert sizes[0] == sizes[1] > 1000 * 8 * 4


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (size_of(999_700_000), "1,000 MB"), (size_of(2_345), "2.35 kB"), (size_of(5_120e12), "5,120 TB"),
        (duration_of(100.4), "100 s"), (duration_of(86_400 * 2_180), "2,180 days"), (duration_of(5_400), "90 min"),
    ],
)  # fmt: skip
def test_numbers_are_read_without_an_exponent(shown: str, text: str) -> None:
    assert shown == text
