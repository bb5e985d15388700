"""What bash completes, as bash does it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from recsys_lab.cli import COMMANDS, GROUPS, main
from recsys_lab.cli.completion import script

COMPLETE = """
source "$1"
COMP_WORDS=("${@:2}")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_recsys_lab
echo "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("completion") / "recsys-lab"
    found.write_text(script())
    return found


def completed(file: Path, *words: str) -> set[str]:
    done = subprocess.run(["bash", "-c", COMPLETE, "bash", str(file), *words], capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([""], set(COMMANDS)),
        (["co"], {"compare", "completion"}),
        (["study", ""], set(GROUPS["study"])),
        (["study", "pl"], {"plan"}),
        (["diagnose", "sh"], {"shuffle", "shortcuts"}),
        (["compare", "runs", "--format", "m"], {"markdown"}),
        (["compare", "--w"], {"--wide"}),
        (["study", "plan", "--js"], {"--json"}),
        (["diagnose", "shuffle", "--stage", ""], {"test", "val"}),
        (["fit", "--config", "ml-100k/sas"], {"ml-100k/sasrec"}),
        (["fit", "--model", "SAS"], {"SASRec"}),
        (["fit", "--model.loss", "Cross"], {"CrossEntropy"}),
        (["fit", "--model.optimization.warm"], {"--model.optimization.warmup_steps"}),
        (["prepare", "ml-100"], {"ml-100k"}),
        (["completion", ""], {"bash", "zsh"}),
        (["compare", ""], set()),  # bash goes on with names of files
    ],
)
def test_what_bash_completes(file: Path, words: list[str], expected: set[str]) -> None:
    assert completed(file, "recsys-lab", *words) == expected


def test_every_command_has_options(file: Path) -> None:
    for name in COMMANDS:
        for below in GROUPS.get(name, ("",)):
            assert completed(file, "recsys-lab", *[name, below][: 1 + bool(below)], "--") or name == "completion"


def test_zsh_reads_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "zsh"]) == 0
    shown = capsys.readouterr().out
    assert shown.endswith(script() + "\n") and "bashcompinit" in shown
    assert main(["completion", "fish"]) == 2
    assert "must be one of bash, zsh" in capsys.readouterr().err
