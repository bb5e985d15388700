"""Checkpoints and run folders of before name modules that have moved: they are read as those of today."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

from recsys_lab.cli import main
from recsys_lab.config import MOVED, from_config, moved, named_today
from recsys_lab.data.split.leave_one_out import LeaveOneOut
from recsys_lab.losses.negatives import UniformNegatives
from recsys_lab.models.encoders.sasrec import SASRec
from recsys_lab.models.lightning import NextItemModule
from recsys_lab.models.system import differing, system_hash
from recsys_lab.runs import seeds
from recsys_lab.runs.finished import Run

OLD = {
    "class_path": "recsys_lab.models.sasrec.SASRec",
    "init_args": {
        "embedding_dim": 8,
        "negatives": {"class_path": "recsys_lab.data.negatives.UniformNegatives", "init_args": {"num_negatives": 4}},
    },
}


@pytest.mark.parametrize("module", sorted(set(MOVED) - {"recsys_lab.data.split"}))  # that is a package of today, too
def test_a_module_of_before_is_the_one_of_today(module: str) -> None:
    today = importlib.import_module(MOVED[module])
    assert importlib.import_module(module) is today
    assert today.__name__ == MOVED[module] and today.__spec__ is not None and today.__spec__.name == MOVED[module]


def test_a_configuration_of_before_is_built() -> None:
    model = from_config(OLD, NextItemModule)
    assert type(model) is SASRec and type(model.negatives) is UniformNegatives
    assert moved("recsys_lab.data.split.LeaveOneOut") == f"{LeaveOneOut.__module__}.LeaveOneOut"


def test_the_system_is_the_same_under_both_names() -> None:
    today = named_today(OLD)
    assert today != OLD and list(differing(OLD, today)) == []
    assert system_hash({"model": OLD}) == system_hash({"model": today}) != system_hash({"model": OLD}, as_named=True)


def test_the_command_line_reads_them(capsys: pytest.CaptureFixture[str]) -> None:
    measure = "recsys_lab.callbacks.measures.calibration.Calibration"
    arguments = ["fit", "--model", OLD["class_path"], "--evaluation.measures", f"[{{class_path: {measure}}}]"]
    assert main([*arguments, "--print_config"]) == 0, capsys.readouterr().err


def test_seeds_of_before_and_of_now_are_seeds_of_one_system(tmp_path: Path) -> None:
    def run(system: dict[str, Any]) -> Run:
        return Run(tmp_path, {"system": system, "system_hash": system_hash(system, as_named=True)}, {})

    before, now = run({"model": OLD}), run({"model": named_today(OLD)})
    assert before.manifest["system_hash"] != now.manifest["system_hash"]
    assert seeds.system_hash(before) == seeds.system_hash(now) == system_hash({"model": OLD})
