"""What starts at once: the package, its help and typing errors import nothing heavy; a missing package is named."""

from __future__ import annotations

import re
import sys

import pytest
from own_process import heavy_after_each, in_own_process

from recsys_lab.cli import COMMANDS, GROUPS, main
from recsys_lab.cli.trainer_commands import HELP
from recsys_lab.models import SASRec
from recsys_lab.models.optimization import Optimization
from recsys_lab.runs.fit.help_screen import ABOUT, help_screen
from recsys_lab.runs.fit.parse_errors import class_options

IMPORT_NOTHING = [
    ("--help", 0),
    ("--version", 0),
    ("fitt", 2),
    ("fit --help", 0),
    ("test runs/x -h", 0),
    ("study --help", 0),
    ("verify --help", 0),
    ("sources --help", 0),
]
NO_TORCH = [f"{command} --help" for command in ("compare", "slices", "study run", "diagnose shuffle", "prepare")]
NO_TORCH += ["sources", "completion bash"]


def test_what_has_no_model_imports_none() -> None:
    """All in one process, lightest first: what one of them imports stays, and the next line names it."""
    lines = ["import recsys_lab; told('recsys_lab')", "from recsys_lab.cli import main"]
    commands = [*IMPORT_NOTHING, *((command, 0) for command in NO_TORCH)]
    lines += [f"assert main({command.split()}) == {code}; told({command!r})" for command, code in commands]
    after = heavy_after_each(lines)
    assert list(after) == ["recsys_lab", *(command for command, _ in commands)]
    light = ["recsys_lab", *(command for command, _ in IMPORT_NOTHING)]
    assert {command: after[command] for command in light} == dict.fromkeys(light, set())
    assert {command: {"torch", "lightning"} & after[command] for command in NO_TORCH} == dict.fromkeys(NO_TORCH, set())


@pytest.mark.parametrize("command", ABOUT)
def test_the_first_screen_says_what_the_classes_say(command: str) -> None:
    written = (HELP / f"{command}.txt").read_text()
    assert written == help_screen(command), "type: python -m recsys_lab.runs.fit.help_screen"


@pytest.mark.parametrize(("columns", "lines", "widest"), [(120, 76, 119), (80, 120, 79)])
def test_the_first_screen_fits_the_terminal(
    columns: int, lines: int, widest: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    assert main(["fit", "--help"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) < lines and max(map(len, shown)) <= widest
    text = " ".join(" ".join(shown).split())
    assert text == " ".join(help_screen("fit").split()), "wrapped, and nothing else"


@pytest.mark.parametrize("words", [[], *([name] for name in COMMANDS), *([a, b] for a in GROUPS for b in GROUPS[a])])
def test_no_help_is_wider_than_the_terminal(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main([*words, "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if len(line) > 80] == []
    named = [line.split()[0] for line in lines if line.startswith("  ") and line[2:3].isalpha()]
    wanted = {(): COMMANDS, ("study",): GROUPS["study"], ("diagnose",): GROUPS["diagnose"]}.get(tuple(words), ())
    assert set(wanted) <= set(named), "a name and what it does are two words"


@pytest.mark.parametrize("command", ABOUT)
def test_the_parser_takes_every_option_of_the_first_screen(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help", "all"]) == 0
    whole = capsys.readouterr().out
    known = set(re.findall(r"--[\w.]+", whole))
    assert "--trainer.gradient_clip_val" in known and "--allow_classes" in known
    shown = set(re.findall(r"(?<=\s)--[\w.]+\w", help_screen(command)))
    known |= {f"--model.{name}" for name in class_options(SASRec)} | {"--help", "--model.help"}
    known |= {f"--model.optimization.{name}" for name in class_options(Optimization)}
    assert len(shown) > 20 and shown <= known


def test_the_check_sees_imports() -> None:
    assert heavy_after_each(["told('before')", "import numpy; told('after')"]) == {"before": set(), "after": {"numpy"}}


@pytest.mark.parametrize("package", ["torch", "lightning"])
def test_a_missing_package_is_named_without_a_traceback(package: str) -> None:
    code = f"import sys; sys.modules[{package!r}] = None\nfrom recsys_lab.cli import main; sys.exit(main(['fit']))"
    done = in_own_process(code)
    assert done.returncode == 2, done.stderr
    assert f"recsys-lab: error: the package {package!r} is not installed for {sys.executable}" in done.stderr
    assert "Traceback" not in done.stderr and len(done.stderr.splitlines()) == 1


def test_a_missing_module_of_ours_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "recsys_lab.cli.sources", None)
    with pytest.raises(ModuleNotFoundError, match="recsys_lab.cli.sources"):
        main(["sources"])
