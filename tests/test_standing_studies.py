"""The studies that the project keeps: each is planned whole, and runs and reports with --fast on made data."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from recsys_lab.cli import main
from recsys_lab.study.plan import make_plan, read_study
from recsys_lab.study.plan.keep import keeps_values
from recsys_lab.study.plan.remembered import Resolver, identities_file
from recsys_lab.study.plan.variants import make_variants

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
STUDIES = sorted(path.parent for path in EXPERIMENTS.glob("*/study.yaml"))
LARGE = ("board", "what-can-it-learn", "explanations")
"""Studies of so many runs that the plan is of a later tier."""
NOT_ON_MADE_DATA = ("cold",)
"""Studies whose models need an item field, which the made data has not: they are planned, and not run here."""


def test_they_are_there() -> None:
    names = {folder.name for folder in STUDIES}
    assert names >= {"board", "losses", "windows", "ml1m-replication", "lstm-attention"}


@pytest.fixture(scope="module")
def resolver() -> Resolver:
    return Resolver()


@pytest.mark.parametrize(
    "folder",
    [pytest.param(path, marks=[pytest.mark.slow] if path.name in LARGE else []) for path in STUDIES],
    ids=lambda folder: folder.name,
)
def test_it_can_be_planned_and_says_how_it_is_run(folder: Path, tmp_path: Path, resolver: Resolver) -> None:
    study = read_study(folder, tmp_path)
    plan = make_plan(study, resolver)
    assert study.name == folder.name and study.question.endswith("?")
    head = (folder / "study.yaml").read_text().split("name:")[0]
    assert f"recsys-lab study run experiments/{folder.name}" in head and "At full size:" in head
    if keeps_values(study):  # `study status` believes what is kept; `study report --readme` writes it anew
        again = Resolver()  # which finds in the cache what was just parsed
        make_variants(study, again)
        copy = tmp_path / "copy" / "study.yaml"
        (copy.parent / "values").mkdir(parents=True)
        shutil.copy(study.file, copy)
        again.keep_beside(copy)
        kept, found = (json.loads(identities_file(file).read_text()) for file in (study.file, copy))
        both = kept["identities"].keys() & found["identities"].keys()  # of one that was edited, some may be missing
        assert both and all(kept["identities"][key] == found["identities"][key] for key in both)
        assert kept["study"] != found["study"] or kept["identities"] == found["identities"]
    # on a fresh clone a run is there when its values are
    assert all(run.state == ("missing" if run.kept is None else "finished") for run in plan.runs)
    # the cap on wall time is part of the study
    assert all(plan.estimates.of(run) is not None for run in plan.runs)


@pytest.mark.slow  # the default tier runs studies of its own: tests/test_cli_study.py
@pytest.mark.parametrize(
    "folder", [path for path in STUDIES if path.name not in NOT_ON_MADE_DATA], ids=lambda folder: folder.name
)
def test_smoke(folder: Path, tmp_path: Path) -> None:
    common = [str(folder), "--fast", "--root", str(tmp_path / "runs"), "--data-dir", str(tmp_path / "data")]
    command = [sys.executable, "-m", "recsys_lab.cli", "study"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = [*command, "run", *common, "--workers", "2", "--threads", "1"]
    assert subprocess.run(run, env=environment, timeout=600).returncode == 0
    assert main(["study", "report", *common, "--output", str(tmp_path / "report"), "--no-figures"]) == 0
    assert (tmp_path / "report" / "report.html").stat().st_size > 100_000
    manifests = [json.loads(path.read_text()) for path in (tmp_path / "runs").glob("*/*/seed*/manifest.json")]
    made = ("synthetic", "world-")
    assert manifests and all(m["epochs"] == 1 and m["evaluation"]["dataset"].startswith(made) for m in manifests)
