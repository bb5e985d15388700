"""What the README shows works: its encoder trains from the command line, its options exist, its scripts are there."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest
from test_cli_runs import QUIET

from recsys_lab.cli import COMMANDS, main
from recsys_lab.cli.prepare import prepare
from recsys_lab.cli.typed import parser_of

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def commands() -> list[list[str]]:
    lines = "\n".join(blocks("bash")).replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True) for line in lines if line.startswith("recsys-lab ")]


def test_the_encoder_of_the_readme_trains(small_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = (block for block in blocks("python") if "class MeanOfHistory" in block)
    (tmp_path / "my_encoder.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))  # the command adds the working folder
    (arguments,) = (c[1:] for c in commands() if "my_encoder.MeanOfHistory" in c)
    arguments[arguments.index("ml-100k")] = str(small_folder)
    assert main([*arguments, *QUIET, "--trainer.max_epochs", "1"]) == 0
    assert (tmp_path / "runs" / "small" / "meanofhistory" / "seed0" / "ranks.parquet").is_file()


def test_the_commands_of_the_readme_parse(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    seen = set()
    for _, name, *arguments in commands():
        seen.add(name)
        if name == "prepare":
            parser_of(prepare, "recsys-lab prepare").parse(arguments)
        elif name == "fit" and arguments[0].startswith("-") and "my_encoder.MeanOfHistory" not in arguments:
            assert main([name, *arguments, "--print_config"]) == 0, capsys.readouterr().err
        else:
            assert name in COMMANDS
    assert seen == set(COMMANDS) - {"validate", "predict"}


def test_the_scripts_of_the_readme_are_there() -> None:
    for script in set(re.findall(r"scripts/\w+\.sh", README)):
        assert (ROOT / script).stat().st_mode & 0o111, f"{script} must be executable"
    assert "scripts/test.sh" in (ROOT / ".ci" / "run").read_text()
