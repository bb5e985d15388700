"""The rules of the design that code can check: who imports whom, file sizes, and that every configuration parses."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

from recsys_lab.cli import main

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "recsys_lab"
DESIGN = ROOT / "docs" / "design.md"
CONFIGS = sorted(ROOT.glob("configs/**/*.yaml"))
FIRST = {path.stem: path for path in reversed(CONFIGS)}
"""One configuration of each name: the others name the same classes, for other data."""
MAX_LINES = {"recsys_lab": 340, "scripts": 340, "tests": 420}

# The rooms from the ground up: a room imports only rooms of lower floors. On the ground floor words, arguments, config,
# batch, data_spec, scorer, task and contracts build on each other in this order; report and statistics know only what
# they have of words.
GROUND = ("words", "arguments", "config", "batch", "data_spec", "scorer", "task", "contracts")
FLOORS: tuple[set[str], ...] = (
    {*GROUND, "report", "statistics"},
    {"data", "ops"},
    {"losses", "audit"},
    {"models"},
    {"evaluation"},
    {"runs"},
    {"diagnose"},
    {"serve"},
    {"study"},
    {"cli"},
)
# What the floors would allow and the design does not: any encoder, loss, split and evaluation can be crossed.
STRANGERS = {"losses": {"data"}, "models": {"data", "losses"}, "evaluation": {"data", "losses", "models"}}

# What is named as text and not imported: the parts that are used when the user names none, the modules whose classes
# have moved, and the command that a study starts as a process, or has SLURM start.
NAMED = {
    "config.py": {"data", "evaluation", "losses", "models", "ops"},
    "models/tasks/next_item.py": {"evaluation", "losses"},
    "models/tasks/click_through.py": {"evaluation"},
    "models/tasks/multi_task.py": {"evaluation"},
    "models/tasks/sequence_labels.py": {"evaluation"},
    "study/launch/job.py": {"cli"},
    "study/launch/execute.py": {"cli"},
}


def allowed(part: str) -> set[str]:
    """The rooms that a room may import, beside itself."""
    if part in GROUND:
        return set(GROUND[: GROUND.index(part)])
    if part in ("report", "statistics"):
        return {"words", "arguments", "config"}
    floor = next(number for number, rooms in enumerate(FLOORS) if part in rooms)
    return set().union(*FLOORS[:floor]) - STRANGERS.get(part, set())


def part_of(path: Path) -> str:
    """`recsys_lab/data/split/leave_one_out.py` -> `data`, `recsys_lab/contracts.py` -> `contracts`."""
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
    if part != "__init__":
        assert imported - {part} <= allowed(part), f"{path} imports {sorted(imported - {part} - allowed(part))}"


def test_the_import_check_sees_imports_inside_functions(tmp_path: Path) -> None:
    file = tmp_path / "some.py"
    file.write_text("def f():\n    from recsys_lab.models import SASRec\n    import recsys_lab.cli.failures\n")
    assert imported_parts(file) == {"models", "cli"}


def test_the_import_check_sees_classes_named_as_text(tmp_path: Path) -> None:
    file = tmp_path / "some.py"
    file.write_text("LOSS = {'class_path': 'recsys_lab.losses.CrossEntropy'}\n")
    assert imported_parts(file) == {"losses"}


def test_every_part_has_a_floor() -> None:
    assert set().union(*FLOORS) == PARTS


def test_every_room_stands_in_the_design() -> None:
    rooms = {f"{path.parent.relative_to(PACKAGE)}/" for path in PACKAGE.rglob("*/__init__.py")}
    rooms |= {f"{name}.py" for name in GROUND}
    table = "\n".join(line for line in DESIGN.read_text().splitlines() if line.startswith("|"))
    missing = sorted(room for room in rooms if f"`{room}`" not in table)
    assert not missing, f"docs/design.md, the table of the section Rooms, has no row for {missing}"


def test_the_picture_of_the_rooms_shows_the_imports() -> None:
    (picture,) = re.findall(r"```mermaid\n(.*?)```", DESIGN.read_text(), flags=re.DOTALL)
    drawn = {
        (part, other)
        for part, others in re.findall(r"^ +(\w+) --> (.+)$", picture, flags=re.MULTILINE)
        for other in others.split(" & ")
    }
    real = set()
    for path in SOURCES:
        part = part_of(path)
        if part in ("__init__", "cli"):
            continue
        imported = imported_parts(path) - NAMED.get(str(path.relative_to(PACKAGE)), set()) - {part}
        real |= {(part, other) for other in imported if part in GROUND or other not in GROUND}
    assert drawn == real, f"docs/design.md lacks {sorted(real - drawn)} and has {sorted(drawn - real)} too many"
    floors = [set(re.findall(r"^ +(\w+)$", floor, re.MULTILINE)) for floor in re.findall(r"\](.*?)end", picture, re.S)]
    assert floors[::-1] == [set(rooms) for rooms in FLOORS]


def test_files_stay_short() -> None:
    lengths = {
        path: len(path.read_text().splitlines()) for folder in MAX_LINES for path in (ROOT / folder).rglob("*.py")
    }
    long = {str(p.relative_to(ROOT)): n for p, n in lengths.items() if n > MAX_LINES[p.relative_to(ROOT).parts[0]]}
    assert not long, f"split what is over {MAX_LINES} lines: {long}"


def test_a_base_name_stands_for_one_file() -> None:
    count = Counter(path.name for path in SOURCES if path.name not in ("__init__.py", "__main__.py"))
    twice = sorted(name for name, number in count.items() if number > 1)
    assert len(twice) <= 3, f"an editor shows base names only; give one of each pair another: {twice}"


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=[] if FIRST[path.stem] == path else [pytest.mark.slow]) for path in CONFIGS],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_every_config_parses(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--config", str(path), "--print_config"]) == 0, capsys.readouterr().err
    assert "class_path: recsys_lab.models." in capsys.readouterr().out
    assert f"configs/{path.relative_to(ROOT / 'configs')}" in path.read_text(), "the header must give the command"


def test_there_are_configs() -> None:
    assert {"gru4rec.yaml", "lstm_attention.yaml", "sasrec.yaml", "popularity.yaml"} <= {path.name for path in CONFIGS}
