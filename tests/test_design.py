"""The rules of the design that code can check: who imports whom, file sizes, and that every configuration parses."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from recsys_lab.cli import main

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "recsys_lab"
CONFIGS = sorted(ROOT.glob("configs/**/*.yaml"))
MAX_LINES = {"recsys_lab": 340, "scripts": 340, "tests": 420}

# part -> parts of the package that it may import, beside itself
BASE = {"arguments", "configuration", "schema"}
ALLOWED = {
    "arguments": set(),
    "configuration": {"arguments"},
    "schema": {"arguments", "configuration"},
    "run_files": BASE,
    "data": BASE,
    "models": BASE,
    "losses": BASE,
    "metrics": BASE,
    "callbacks": BASE | {"run_files", "metrics"},
    "study": BASE | {"run_files", "metrics"},
    "report": BASE | {"metrics", "study"},
}


# What is named as text and not imported: the parts that are used when the user names none, and the command that a study
# starts as a process.
NAMED = {
    "models/base.py": {"losses", "data", "callbacks"},
    "study/launch/job.py": {"cli"},
}


def part_of(path: Path) -> str:
    """`recsys_lab/data/split.py` -> `data`, `recsys_lab/schema.py` -> `schema`."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


SOURCES = sorted(PACKAGE.rglob("*.py"))
PARTS = {part_of(path) for path in SOURCES} - {"__init__"}


def imported_parts(path: Path) -> set[str]:
    """Parts of recsys_lab that a file imports or names in a text, anywhere in it, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide who imports whom"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):  # a class_path is an import, too
            names = re.findall(r"^recsys_lab\.\w+(?=[.\w]*$)", node.value)
        found |= {name.split(".")[1] for name in names if name.startswith("recsys_lab.")}
    return found & PARTS


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_one_way(path: Path) -> None:
    part = part_of(path)
    imported = imported_parts(path) - NAMED.get(str(path.relative_to(PACKAGE)), set())
    if part != "cli":
        assert "cli" not in imported
    if part in ALLOWED:
        assert imported - {part} <= ALLOWED[part], f"{path} imports {sorted(imported - {part} - ALLOWED[part])}"


def test_the_import_check_sees_imports_inside_functions(tmp_path: Path) -> None:
    file = tmp_path / "some.py"
    file.write_text("def f():\n    from recsys_lab.models import SASRec\n    import recsys_lab.cli.errors\n")
    assert imported_parts(file) == {"models", "cli"}


def test_the_import_check_sees_classes_named_as_text(tmp_path: Path) -> None:
    file = tmp_path / "some.py"
    file.write_text("LOSS = {'class_path': 'recsys_lab.losses.CrossEntropy'}\n")
    assert imported_parts(file) == {"losses"}


def test_every_part_has_a_rule() -> None:
    parts = {part_of(path) for path in SOURCES} - {"__init__", "cli"}
    assert parts <= set(ALLOWED), f"say in ALLOWED what {sorted(parts - set(ALLOWED))} may import"


def test_files_stay_short() -> None:
    lengths = {
        path: len(path.read_text().splitlines()) for folder in MAX_LINES for path in (ROOT / folder).rglob("*.py")
    }
    long = {str(p.relative_to(ROOT)): n for p, n in lengths.items() if n > MAX_LINES[p.relative_to(ROOT).parts[0]]}
    assert not long, f"split what is over {MAX_LINES} lines: {long}"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_config_parses(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--config", str(path), "--print_config"]) == 0, capsys.readouterr().err
    assert "class_path: recsys_lab.models." in capsys.readouterr().out
    assert f"configs/{path.relative_to(ROOT / 'configs')}" in path.read_text(), "the header must give the command"


def test_there_are_configs() -> None:
    assert {"gru4rec.yaml", "lstm_attention.yaml", "sasrec.yaml", "popularity.yaml"} <= {path.name for path in CONFIGS}
