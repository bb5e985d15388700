"""What the README and the tutorial show works: their commands run, options exist, scripts are there."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from recsys_lab.cli import COMMANDS, main
from recsys_lab.cli.prepare import prepare
from recsys_lab.cli.typed import parser_of

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def commands(text: str = README) -> list[list[str]]:
    lines = "\n".join(blocks("bash", text)).replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True) for line in map(str.strip, lines) if line.startswith("recsys-lab ")]


def test_the_commands_of_the_tour_parse(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    seen = set()
    for _, name, *arguments in [*commands(), *commands((ROOT / "docs" / "command_line.md").read_text())]:
        seen.add(name)
        if name == "prepare":
            parser_of(prepare, "recsys-lab prepare").parse(arguments)
        elif name == "fit" and arguments[0].startswith("-") and "$seed" not in arguments:
            assert main([name, *arguments, "--print_config"]) == 0, capsys.readouterr().err
        else:
            assert name in COMMANDS
    assert seen >= set(COMMANDS) - {"validate", "predict"}


@pytest.mark.slow
def test_a_log_becomes_a_comparison_and_a_list(tmp_path: Path) -> None:
    """The log of the tutorial, 2,000 rows, and the commands of the README as they stand, in a shell: at most 12.
    Those of the tutorial are run by test_tutorial.py."""
    (code,) = (block for block in blocks("python", (ROOT / "docs" / "tutorial.md").read_text()) if "logs.csv" in block)
    exec(code, {"open": lambda name, mode: (tmp_path / name).open(mode)})
    shown = [block for block in blocks("bash", README) if "shop" in block]
    script = "".join(["set -e\n", *shown])
    assert script.count("recsys-lab ") <= 12
    tools = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=os.environ | tools, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(list(tmp_path.glob("runs/shop/*/seed?/metrics.json"))) == 6
    assert re.search(r"^ +1  a\d+ ", done.stdout, re.M), "a list of articles"
    assert "markov-backoff" in done.stdout and "popularity" in done.stdout


def test_the_scripts_of_the_readme_are_there() -> None:
    for script in set(re.findall(r"scripts/\w+\.sh", README)):
        assert (ROOT / script).stat().st_mode & 0o111, f"{script} must be executable"
    assert "scripts/test.sh" in (ROOT / ".ci" / "run").read_text()
