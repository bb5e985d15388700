"""`recsys-lab study` on real, tiny runs: identity, bad input, failures, Ctrl-C, going on, other data."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from recsys_lab.cli import main
from recsys_lab.runs.run_files import write_manifest
from recsys_lab.study.launch.job import read_job, state_of
from recsys_lab.study.plan.remembered import Resolver
from recsys_lab.study.plan.study_settings import compose

BASE = """
name: tiny
base:
  data.dataset: {data}
  data.max_length: 8
  data.batch_size: 4
  model: SASRec
  model.embedding_dim: 8
  model.num_layers: 1
  trainer.max_epochs: 1
  trainer.accelerator: cpu
  trainer.devices: 1
"""
AXES = "axes: {e: {good: {}, bad: {model: LSTMAttention, model.time: relative}}}"


@pytest.fixture(scope="module")
def resolver() -> Resolver:
    return Resolver()


class Lab:
    """A study file and its runs in a folder of their own."""

    def __init__(self, folder: Path, data: Path) -> None:
        self.folder, self.data, self.root = folder, data, folder / "runs"

    def write(self, text: str) -> None:
        (self.folder / "study.yaml").write_text(BASE.format(data=self.data) + text)

    def __call__(self, subcommand: str, *more: str) -> int:
        return main(["study", subcommand, str(self.folder), "--root", str(self.root), *more])

    def command(self, subcommand: str) -> list[str]:
        return [sys.executable, "-m", "recsys_lab.cli", "study", subcommand, str(self.folder), "--root", str(self.root)]

    def runs(self) -> dict[str, Path]:
        return {path.parent.name.rpartition("-")[0]: path for path in sorted((self.root / "tiny").glob("*/seed0"))}


@pytest.fixture
def lab(tmp_path: Path, small_folder: Path) -> Lab:
    return Lab(tmp_path, small_folder)


def identity(resolver: Resolver, *layers: dict[str, Any]) -> str:
    checked = resolver.check([resolver.compose(list(layers))])[0]
    assert not checked.error
    return checked.identity


def test_identity_is_of_what_a_run_does(resolver: Resolver) -> None:
    base = {"model": "SASRec", "data.max_length": 20}
    same = [
        {"model.dropout": 0.2},  # its default
        {"data.data_dir": "elsewhere", "data.num_workers": 3},
        {"trainer.enable_progress_bar": False, "run.logger": "wandb"},
        {"model": "recsys_lab.models.SASRec"},
        {"model": "recsys_lab.models.encoders.sasrec.SASRec"},
        {"model.optimization.lr": "1e-3"},  # YAML reads a text
    ]
    other = [{"model.dropout": 0.3}, {"data.max_length": 21}, {"model": "GRU4Rec"}, {"model.loss": "BPR"}]
    other += [{"trainer.max_epochs": 3}, {"data.split": "GlobalTemporal"}, {"run.retrain": True}]
    assert {identity(resolver, base, one) for one in same} == {identity(resolver, base)}
    assert len({identity(resolver, base, one) for one in [{}, *other]}) == len(other) + 1


def test_identities_of_many_are_those_of_each(resolver: Resolver) -> None:
    """Only a few of a grid are parsed; the others are put together from their parts."""
    grid = [
        {"model": model, "model.loss": loss, "model.dropout": dropout, "data.max_length": length}
        for model in ("SASRec", "GRU4Rec")
        for loss in ("GBCE", "CrossEntropy")
        for dropout in (0.2, 0.25, 0.4)
        for length in (5, 50)
    ]
    configs = [resolver.compose([one]) for one in grid]
    together = [checked.identity for checked in resolver.check(configs)]
    assert together == [resolver.check([config])[0].identity for config in configs]
    assert len(set(together)) == len(grid)


def test_a_check_leaves_the_configuration_as_it_is(resolver: Resolver) -> None:
    callbacks = [{"class_path": "LearningRateMonitor", "init_args": {"logging_interval": "epoch"}}]
    config = resolver.compose([{"model": "SASRec", "trainer.callbacks": callbacks}])
    assert not resolver.check([config])[0].error
    assert [type(one) for one in config["trainer"]["callbacks"]] == [dict]


def test_a_swapped_class_keeps_the_settings_it_has(resolver: Resolver) -> None:
    base = {
        "model": "SASRec",
        "model.embedding_dim": 8,
        "model.num_heads": 2,
        "model.loss": "GBCE",
        "model.loss.t": 0.5,
    }
    swapped = resolver.compose([base, {"model": "GRU4Rec", "model.loss": "CrossEntropy"}])
    assert swapped["model"] == {
        "class_path": "GRU4Rec",
        "init_args": {"embedding_dim": 8, "loss": {"class_path": "CrossEntropy"}},
    }


def test_a_plan_names_data_that_no_run_could_open(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    lab.write("axes: {data.dataset: [synthetic, nowhere]}\nseeds: [0]")
    assert lab("plan", "--data_dir", str(lab.folder / "data")) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert said.count("can't run yet: ") == 1 and "unknown data set 'nowhere'. Nothing is prepared in " in said
    assert lab("plan", "--only", "*synthetic*") == 0 and "can't run yet" not in capsys.readouterr().out


def test_a_start_is_not_changed() -> None:
    start = {"model": {"class_path": "A", "init_args": {"x": [1]}}}
    made = compose([{"model.x": [2], "model.y.z": 3}], lambda name: None, start)
    assert start == {"model": {"class_path": "A", "init_args": {"x": [1]}}}
    assert made["model"]["init_args"] == {"x": [2], "y": {"z": 3}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("axes: {model.dropuot: [0.1, 0.2]}", "SASRec has no key 'dropuot'. Did you mean 'dropout'"),
        ("axes: {model.num_layers: [1, two]}", "variant two: --model.num_layers must be a whole number"),
        ("axes: {data.max_lenght: [3]}", "unknown key 'data.max_lenght'. Did you mean 'max_length'"),
        ("axes: {a: {x: {model.dropout: 0.2}, y: {}}}", "x and y have the same resolved configuration"),
        ("axes: {model.num_heads: [3]}", "model: SASRec: num_heads must divide embedding_dim 8, not 3"),
        ("axes: {model: [SASRecc]}", "unknown class 'SASRecc'. Did you mean 'SASRec'"),
        ("axes: {trainer.max_time: ['ten minutes']}", "trainer.max_time"),
        ("axes: {loss.t: [0.5]}", "model.loss"),
        ("axes: {data.exclude_seen: [histroy]}", "data.exclude_seen"),
        ("axes: {data.dataset.x: [1]}", "data.dataset"),
    ],
)
def test_bad_input_is_found_before_anything_runs(
    lab: Lab, text: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    lab.write(text)
    assert lab("run") == 2
    said = capsys.readouterr().err
    assert any(part in said for part in message.split("|")) and "Traceback" not in said
    assert not lab.root.exists()


def test_plan_changes_nothing(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    lab.write("axes: {model.dropout: [0.1, 0.3]}\nseeds: 2")
    assert lab("plan") == 0
    said = capsys.readouterr().out
    assert said.count("missing  ") >= 4 and "4 runs of 2 variants: 4 missing" in said
    assert not lab.root.exists()


def test_a_study_with_a_failing_run(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    # relative time needs last-position training: known only when the fit begins
    lab.write(AXES)
    (lab.folder / "values").mkdir()
    assert lab("run", "--workers", "2", "--threads", "1") == 1
    said = capsys.readouterr()
    assert "good seed 0: finished" in said.out and "bad seed 0: failed" in said.out and "study retry" in said.err
    runs = lab.runs()
    assert state_of(runs["good"]) == "finished" and state_of(runs["bad"]) == "failed"
    manifest = json.loads((runs["good"] / "manifest.json").read_text())
    assert (manifest["study"], manifest["variant"], manifest["seed"]) == ("tiny", "good", 0)

    assert lab("status") == 0
    assert "1 finished, 1 failed" in (said := capsys.readouterr().out) and "training_mode: last_position" in said
    before = (runs["good"] / "manifest.json").stat().st_mtime_ns
    assert lab("run") == 0 and "nothing to run; 1 failed" in capsys.readouterr().out
    assert lab("retry") == 1
    assert read_job(runs["bad"])["attempts"] == 2 and (runs["good"] / "manifest.json").stat().st_mtime_ns == before

    (kept,) = (lab.folder / "values").glob("*.parquet")  # written as the run ended
    assert kept.name == "good-seed0.parquet" and kept.stat().st_size < 20_000
    assert str(lab.folder).encode() not in kept.read_bytes()
    elsewhere = Lab(lab.folder / "elsewhere", lab.data)
    shutil.copytree(lab.folder / "values", elsewhere.folder / "values")
    elsewhere.write(f"{AXES}\nseeds: [0]")
    assert elsewhere("status") == 0 and "1 finished, 1 missing" in capsys.readouterr().out
    assert elsewhere("report", "--no-figures") == 0 and not list(elsewhere.root.glob("*/*/seed*"))
    capsys.readouterr()

    shutil.rmtree(lab.folder / "values")  # with them the run would be finished all the same
    manifest["evaluation"]["data_hash"] = "of other data"
    write_manifest(runs["good"], manifest)
    assert lab("retry") == 2 and "made on another version of the data" in capsys.readouterr().err
    assert read_job(runs["bad"])["attempts"] == 2


@pytest.mark.parametrize(
    ("typed", "way_on"),
    [
        ("study run a.yaml --only 'x*' --workers 2", "; to go on: recsys-lab study run a.yaml --only 'x*' --workers 2"),
        ("study tune a.yaml", "; to go on: recsys-lab study tune a.yaml"),
        ("study retry a.yaml --resume --workers 2", "; to go on: recsys-lab study run a.yaml --workers 2"),
        ("study retry --resume true a.yaml", "; to go on: recsys-lab study run a.yaml"),
        ("study report a.yaml", ""),
        ("compare runs", ""),
    ],
)
def test_ctrl_c_says_what_to_type(
    typed: str, way_on: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def pressed(arguments: list[str]) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("recsys_lab.cli._call", pressed)
    assert main(shlex.split(typed)) == 130
    assert capsys.readouterr().err == f"recsys-lab: interrupted{way_on}\n"


@pytest.mark.process
def test_ctrl_c_leaves_a_study_that_goes_on(lab: Lab) -> None:
    lab.write("seeds: [0]")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    many = [
        *lab.command("run"),
        "--workers",
        "1",
        "--set",
        "trainer.max_epochs=30",
        "--set",
        "early_stopping.patience=30",
    ]
    process = subprocess.Popen(many, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    end = time.time() + 300
    while not any(epochs(folder) >= 3 for folder in lab.runs().values()):
        assert process.poll() is None and time.time() < end, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=300)
    assert process.returncode == 130 and said[1].splitlines()[-1].startswith(
        "recsys-lab: interrupted; to go on: recsys-lab study run "
    )
    (line,) = [line for line in said[0].splitlines() if "interrupted" in line]
    assert re.fullmatch(r"\[1/1\] \S+ seed 0: interrupted, \d+ s, \d+ epochs kept", line), line
    (folder,) = lab.runs().values()
    done = epochs(folder)
    assert state_of(folder) == "interrupted" and done < 30

    kept = (folder / "metrics.csv").read_text().splitlines()[:done]  # the newest may end before its checkpoint is whole
    assert subprocess.run(many, env=environment, timeout=600).returncode == 0
    assert state_of(folder) == "finished" and epochs(folder) == 30
    assert (folder / "metrics.csv").read_text().splitlines()[:done] == kept  # seconds and all: they were not run again
    assert read_job(folder)["attempts"] == 2


def epochs(folder: Path) -> int:
    try:
        with (folder / "metrics.csv").open(newline="") as file:
            return len(list(csv.DictReader(file)))
    except OSError:
        return 0
