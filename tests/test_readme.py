"""What the README and the tutorial show works: their commands run, options exist, scripts are there."""

from __future__ import annotations

import importlib
import inspect
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import warm_program

from recsys_lab.cli import COMMANDS, GROUPS, allowed_classes, main
from recsys_lab.cli.prepare import prepare
from recsys_lab.cli.typed import parser_of

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def commands(text: str = README) -> list[list[str]]:
    """Of all lines; what is between quotes may go over several."""
    found, line = [], ""
    for part in "\n".join(blocks("bash", text)).replace("\\\n", " ").splitlines():
        line = f"{line} {part}".strip()
        if re.sub(r"#.*", "", line).count("'") % 2 == 0:
            found += [shlex.split(line, comments=True)] * line.startswith("recsys-lab ")
            line = ""
    return found


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


PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")), *sorted(ROOT.glob("experiments/*/README.md"))]


def test_options_of_the_commands_of_every_page_exist() -> None:
    """Of the commands that have a parser of their own; values that a shell puts in are left out."""
    seen = set()
    for page in PAGES:
        for words in commands(page.read_text()):
            place, rest = COMMANDS[words[1]][0], words[2:]
            if words[1] in GROUPS:
                place, rest = GROUPS[words[1]][rest[0]][0], rest[1:]
            module, _, name = place.partition(":")
            function = getattr(importlib.import_module(module), name)
            ends = [i for i, word in enumerate(rest) if word in ("|", ">", "&&", "&")]
            shell = [*rest[: ends[0] if ends else None], ""]
            if list(inspect.signature(function).parameters) == ["words"] or any("$" in word for word in shell):
                continue
            given, _ = allowed_classes([words[1], *shell[:-1]])
            parser_of(function, str(page)).parse(given[1:])
            seen.add(place)
    assert len(seen) > 15


@pytest.mark.slow
def test_a_log_becomes_a_comparison_and_a_list(tmp_path: Path) -> None:
    """The log of the tutorial, 2,000 rows, and the commands of the README as they stand, in a shell: at most 12.
    Those of the tutorial are run by test_tutorial.py."""
    (code,) = (block for block in blocks("python", (ROOT / "docs" / "tutorial.md").read_text()) if "logs.csv" in block)
    exec(code, {"open": lambda name, mode: (tmp_path / name).open(mode)})
    shown = [block for block in blocks("bash", README) if "shop" in block]
    script = "".join(["set -e\n", *shown])
    assert script.count("recsys-lab ") <= 12
    programs = f"{warm_program.install(tmp_path / 'bin')}:{Path(sys.executable).parent}"
    tools = {"PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=os.environ | tools, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(list(tmp_path.glob("runs/shop/*/seed?/metrics.json"))) == 6
    assert re.search(r"^ +1  a\d+ ", done.stdout, re.M), "a list of articles"
    assert "markov-backoff" in done.stdout and "popularity" in done.stdout


def test_the_scripts_of_the_readme_are_there() -> None:
    for script in set(re.findall(r"scripts/\w+\.sh", README)):
        assert (ROOT / script).stat().st_mode & 0o111, f"{script} must be executable"
    assert "scripts/test.sh" in (ROOT / ".ci" / "run").read_text()
