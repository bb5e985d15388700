"""What starts at once: the package, its help and typing errors import nothing heavy; a missing package is named."""

from __future__ import annotations

import re
import sys

import pytest
from own_process import heavy_after, in_own_process

from recsys_lab.cli import main
from recsys_lab.models import SASRec
from recsys_lab.models.optimization import Optimization
from recsys_lab.runs.fit.help_screen import ABOUT, help_screen
from recsys_lab.runs.fit.parse_errors import class_options


@pytest.mark.parametrize(
    "code",
    [
        "import recsys_lab",
        "from recsys_lab.cli import main; assert main(['--help']) == 0",
        "from recsys_lab.cli import main; assert main(['--version']) == 0",
        "from recsys_lab.cli import main; assert main(['fitt']) == 2",
        "from recsys_lab.cli import main; assert main(['fit', '--help']) == 0",
        "from recsys_lab.cli import main; assert main(['test', 'runs/x', '-h']) == 0",
        "from recsys_lab.cli import main; assert main(['study', '--help']) == 0",
        "from recsys_lab.cli import main; assert main(['verify', '--help']) == 0",
        "from recsys_lab.cli import main; assert main(['sources', '--help']) == 0",
    ],
)
def test_nothing_heavy_is_imported(code: str) -> None:
    assert heavy_after(code) == set()


@pytest.mark.parametrize(
    "command",
    ["compare --help", "slices --help", "study run --help", "diagnose shuffle --help", "sources", "prepare --help"],
)
def test_commands_without_a_model_need_no_torch(command: str) -> None:
    code = f"from recsys_lab.cli import main; assert main({command.split()}) == 0"
    assert not {"torch", "lightning"} & heavy_after(code)


@pytest.mark.parametrize("command", ABOUT)
def test_the_first_screen_says_what_the_classes_say(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert shown == help_screen(command), "type: python -m recsys_lab.runs.fit.help_screen"
    lines = shown.splitlines()
    assert len(lines) < 70 and max(map(len, lines)) <= 120


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
    assert heavy_after("import numpy") == {"numpy"}


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
