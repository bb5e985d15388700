"""`--json` of every command that prints a table: standard output is one JSON document and nothing else. No command
colours what it prints, so NO_COLOR has nothing to switch off."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_cli_runs import fit

from recsys_lab.cli import COMMANDS, GROUPS, main
from recsys_lab.cli.typed import options_of

TABLES = {"sources", "audit", "compare", "slices", "recommend", "study plan", "study status", "verify"}
TABLES |= {"diagnose shuffle", "diagnose calibration", "diagnose shortcuts", "diagnose explain"}
TABLES |= {"diagnose faithfulness", "estimate"}
NO_TABLE = {"fit", "validate", "test", "predict", "prepare", "export", "serve", "completion"}
NO_TABLE |= {"report", "study run", "study retry", "study report", "study tune"}  # files, and progress; tune: best.yaml


@pytest.fixture(scope="module")
def run(small_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    assert fit(small_folder, root, "--trainer.max_epochs", "1") == 0
    (found,) = root.rglob("seed0")
    return found


@pytest.fixture
def words_of(run: Path, small_folder: Path, tmp_path: Path) -> Callable[[str], list[str]]:
    study = tmp_path / "study.yaml"
    study.write_text("base: {model: SASRec, data.dataset: synthetic}\nseeds: 2\n")
    return lambda command: {
        "sources": [],
        "audit": [str(small_folder), "--output", str(tmp_path / "audit")],
        "compare": [str(run), "--no_baselines"],
        "slices": [str(run)],
        "recommend": [str(run), "--history", "1,2"],
        "study plan": [str(study), "--root", str(tmp_path)],
        "study status": [str(study), "--root", str(tmp_path)],
        "verify": [str(run)],
        "estimate": [str(run), "--measure", "false"],
        "diagnose shuffle": [str(run), "--seeds", "1", "--output", str(tmp_path / "shuffle")],
        "diagnose shortcuts": [str(run), "--output", str(tmp_path / "shortcuts")],
        "diagnose explain": [str(run), "--history", "101,102", "--method", "leave_one_out"],
        "diagnose faithfulness": [str(run), "--lists", "4", "--method", "removal", "--output", str(tmp_path / "faith")],
        "diagnose calibration": [str(run), "--output", str(tmp_path / "calibration")],
    }[command]


def names() -> dict[str, str]:
    found = {name: place for name, (place, _) in COMMANDS.items() if name not in GROUPS}
    return found | {f"{group} {name}": place for group, below in GROUPS.items() for name, (place, _) in below.items()}


def test_every_command_is_one_or_the_other() -> None:
    assert set(names()) == TABLES | NO_TABLE
    for name in TABLES:
        module, _, function = names()[name].partition(":")
        assert "json" in [one.name for one in options_of(getattr(importlib.import_module(module), function))], name


@pytest.mark.parametrize("command", sorted(TABLES))
def test_standard_output_is_json_or_fits_the_terminal(
    command: str,
    words_of: Callable[[str], list[str]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    words = [*command.split(), *words_of(command)]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert not [line for line in shown.splitlines() if len(line) > 80 and " " in line.strip()]
    assert main([*words, "--json"]) == 0
    found: Any = json.loads(capsys.readouterr().out)
    assert found and "\x1b[" not in shown and shown.strip() != json.dumps(found)


def test_a_plan_for_programs(words_of: Callable[[str], list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "plan", *words_of("study plan"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["states"] == {"missing": 2} and [one["seed"] for one in found["runs"]] == [0, 1]


def test_columns_of_a_comparison(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def head(*words: str) -> str:
        assert main(["compare", str(run), "--no_baselines", *words]) == 0
        return capsys.readouterr().out.splitlines()[0]

    monkeypatch.setenv("COLUMNS", "80")
    assert {"variant", "ndcg@10"} <= set(head().split()) and len(head()) <= 80
    assert "stopped by" in head("--wide") and "tokens/s" in head("--wide")
    assert head("--columns", "tokens/s,variant").split() == ["tokens/s", "variant"]
    assert head("--columns", "variant,mrr", "--format", "markdown") == "| variant | mrr@10 |"
    assert main(["compare", str(run), "--no_baselines", "--columns", "mrrr"]) == 2
    assert "unknown --columns 'mrrr'; known: behind_best" in capsys.readouterr().err
    assert main(["compare", str(run), "--json", "--columns", "mrr"]) == 2
    assert "json holds every column" in capsys.readouterr().err
