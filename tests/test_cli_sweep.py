"""A study as W&B sweeps, run by a real `wandb agent` against a server on this machine; its report as an artifact."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from test_cli_runs import QUIET
from wandb_files import offline_runs, stored
from wandb_server import wandb_server

from recsys_lab.cli import main
from recsys_lab.cli.study.resolver import Resolver
from recsys_lab.schema import RecsysLabError
from recsys_lab.study.plan import Plan, make_plan, read_study
from recsys_lab.study.sweeps import grid_sweep, planned_run, search_sweeps, trial_of
from recsys_lab.study.tune.searches import make_searches
from recsys_lab.study.tune.settings import read_settings

STUDY: dict[str, Any] = {
    "name": "tiny",
    "base": {"model": "SASRec", "model.embedding_dim": 8, "model.num_layers": 1, "trainer.max_epochs": 1}
    | {key.removeprefix("--"): yaml.safe_load(value) for key, value in zip(QUIET[::2], QUIET[1::2], strict=True)},
    "axes": {"encoder": {"gru4rec": {"model": "GRU4Rec"}, "sasrec": {}}, "data.max_length": [8, 10]},
    "seeds": [0, 1],
}
TUNE = {
    "axis": "encoder",
    "trials": 5,
    "pruner": "hyperband",
    "space": {
        "model.optimization.lr": {"low": 1e-4, "high": 1e-2, "log": True},
        "model.dropout": {"low": 0.0, "high": 0.3, "step": 0.1},
        "model.loss": {"choices": ["CrossEntropy", {"class_path": "BCE"}]},
    },
    "spaces": {"sasrec": {"model.num_layers": {"low": 1, "high": 3}}},
}


@pytest.fixture(scope="module")
def resolver() -> Resolver:
    return Resolver()


def written(folder: Path, **more: Any) -> Path:
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump({**STUDY, **more}, sort_keys=False))
    return path


def planned(folder: Path, resolver: Resolver, **more: Any) -> Plan:
    return make_plan(read_study(written(folder, **more), folder / "runs"), resolver)


def test_a_grid_is_one_parameter_per_axis_and_the_seed(tmp_path: Path, resolver: Resolver) -> None:
    plan = planned(tmp_path, resolver)
    sweep = grid_sweep(plan, ["recsys-lab"])
    config = yaml.safe_load(sweep.text())
    assert config["method"] == "grid" and config["metric"] == {"name": "val/ndcg@10", "goal": "maximize"}
    assert config["parameters"] == {
        "encoder": {"values": ["gru4rec", "sasrec"]},
        "data.max_length": {"values": [8, 10]},
        "seed": {"values": [0, 1]},
    }
    assert config["command"] == ["${env}", "recsys-lab", "${args_json}"] and not sweep.notes
    run = planned_run(plan, {"encoder": "sasrec", "data.max_length": 10, "seed": 1})
    assert run.variant.values == {"encoder": "sasrec", "data.max_length": "10"} and run.seed == 1


def test_exclusions_make_the_variants_the_values(tmp_path: Path, resolver: Resolver) -> None:
    plan = planned(tmp_path, resolver, exclude=[{"encoder": "gru4rec", "data.max_length": 10}])
    sweep = grid_sweep(plan, [])
    assert sweep.config["parameters"]["variant"]["values"] == [variant.label for variant in plan.variants]
    assert "exclusions" in sweep.text().splitlines()[1]
    found = {
        planned_run(plan, {"variant": label, "seed": seed}).folder
        for label in sweep.config["parameters"]["variant"]["values"]
        for seed in sweep.config["parameters"]["seed"]["values"]
    }
    assert found == {run.folder for run in plan.runs}


@pytest.mark.parametrize("given", [{}, {"seed": 0}, {"encoder": "sasrec", "data.max_length": 12, "seed": 0}])
def test_parameters_of_no_run_are_refused(given: dict[str, Any], tmp_path: Path, resolver: Resolver) -> None:
    with pytest.raises(RecsysLabError, match="has no run with .*export the sweep again"):
        planned_run(planned(tmp_path, resolver), given)


def test_a_search_is_a_sweep_for_each_compared_value(tmp_path: Path, resolver: Resolver) -> None:
    plan = planned(tmp_path, resolver, tune=TUNE)
    settings = read_settings(plan.study)
    searches = make_searches(plan.study, plan.variants, settings, resolver)
    gru4rec, sasrec = search_sweeps(plan.study, settings, searches, [])
    assert {sweep.config["run_cap"] for sweep in (gru4rec, sasrec)} == {5}, "an equal budget"
    assert sasrec.config["method"] == "bayes" and sasrec.config["early_terminate"]["type"] == "hyperband"
    assert sasrec.config["parameters"] == {
        "search": {"value": "sasrec"},
        "model.optimization.lr": {"distribution": "log_uniform_values", "min": 1e-4, "max": 1e-2},
        "model.dropout": {"values": [0.0, 0.1, 0.2, 0.3]},
        "model.loss": {"values": ["CrossEntropy", '{"class_path": "BCE"}']},
        "model.num_layers": {"min": 1, "max": 3},
    }
    assert "model.num_layers" not in gru4rec.config["parameters"]
    given = {"search": "gru4rec", "model.optimization.lr": 0.01, "model.dropout": 0.1}
    search, chosen = trial_of(searches, given | {"model.loss": '{"class_path": "BCE"}'})
    assert search.label == "gru4rec" and chosen["model.loss"] == {"class_path": "BCE"}
    with pytest.raises(RecsysLabError, match="export the sweep again"):
        trial_of(searches, given)


def test_an_agent_runs_the_runs_of_the_study(small_folder: Path, tmp_path: Path) -> None:
    """The exported file, a real agent: it runs a missing run, and tells the sweep of a finished one."""
    base = STUDY["base"] | {"data.dataset": str(small_folder)}
    written(tmp_path, base=base, axes={"encoder": STUDY["axes"]["encoder"]}, seeds=[0])
    root = ["--root", str(tmp_path / "runs")]
    assert main(["study", "sweep", str(tmp_path), *root, "--output", str(tmp_path / "sweep")]) == 0
    with wandb_server() as server:
        server.sweep = (tmp_path / "sweep" / "tiny.yaml").read_text()
        server.queue = [{"encoder": "sasrec", "seed": 0}] * 2
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        environment = {**os.environ, **server.environment(), "PATH": path}
        environment.pop("WANDB_MODE", None)
        command = [sys.executable, "-m", "wandb", "agent", "me/tiny/abc12345"]
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0 and "finished already" in done.stdout, done.stdout + done.stderr
    (folder,) = (tmp_path / "runs" / "tiny").glob("sasrec-*/seed0")
    metrics = json.loads((folder / "metrics.json").read_text())
    for run in ("run0", "run1"):
        assert server.runs[run]["sweep"] == "abc12345" and server.runs[run]["groupName"] == "sasrec"
        assert server.summary[run]["val/ndcg@10"] == pytest.approx(metrics["val/ndcg@10"])


def test_log_keeps_the_report_as_an_artifact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_MODE", "WANDB_DATA_DIR", "WANDB_SWEEP_ID"):
        monkeypatch.delenv(name, raising=False)
    file, report = written(tmp_path), tmp_path / "runs" / "tiny" / "report"
    arguments = ["study", "log", str(file), "--root", str(tmp_path / "runs")]
    assert main(arguments) == 2, "no report yet"
    (report / "figures").mkdir(parents=True)
    (report / "report.html").write_text("<html>the page</html>")
    (report / "report.md").write_text("| variant |")
    (report / "figures" / "ranking.svg").write_text("<svg/>")
    pl.DataFrame({"variant": ["sasrec"], "test/ndcg@10": [0.1]}).write_parquet(report / "results.parquet")
    command = [sys.executable, "-m", "recsys_lab.cli", *arguments]  # where artifacts wait is read once per process
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and f"`wandb sync {tmp_path / 'runs' / 'tiny' / 'wandb'}`" in done.stdout, done.stderr
    (run,) = offline_runs(tmp_path / "runs" / "tiny")
    found = stored(run)
    assert found["run"].project == "tiny" and found["run"].job_type == "report"
    artifact = next(one for one in found["artifacts"] if one.type == "study-report")
    paths = {entry.path: Path(entry.local_path) for entry in artifact.manifest.contents}
    assert set(paths) == {"report.html", "report.md", "figures/ranking.svg", "results.parquet"}
    assert artifact.name == "tiny-report" and paths["report.html"].read_text() == "<html>the page</html>"
    assert all(path.is_relative_to(tmp_path) for path in paths.values()), "what is to be synced lies in the study"
    assert {"report.path", "results.path"} <= set(found["summary"]), "the page and the table are shown"
