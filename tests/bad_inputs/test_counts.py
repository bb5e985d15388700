"""Every bad input of the tables beside this file: one clear line, exit code 2, and nothing half-written.

The table of counts is printed (`pytest -s`). A case of a table is a case of this suite: add yours there.
"""

from __future__ import annotations

import importlib
from collections import Counter
from pathlib import Path

import prepare_cases
import pytest
from case import Case, Outcome, PythonCase, try_case
from small_data import made_events, prepared

from recsys_lab.cli import main

pytestmark = pytest.mark.slow
TABLES = ("fit_cases", "prepare_cases", "newer_prepare_cases", "other_cases", "python_cases", "reported_cases")
VERDICTS = ("clear", "accepted", "unclear", "traceback", "silent")
MOST_UNCLEAR = 3


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """$DATA: a data folder with the prepared set `small`. $RUN: a finished run on it."""
    folder = tmp_path_factory.mktemp("places")
    prepared(folder / "data" / "small", made_events())
    from fit_cases import TINY

    arguments = f"{TINY} --run.folder {folder / 'run'}".replace("$DATA", str(folder / "data"))
    assert main(arguments.split()) == 0
    return {"RUN": str(folder / "run"), "DATA": str(folder / "data")}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory, places: dict[str, str]) -> dict[str, list[Outcome]]:
    """By table. All in one process, each in a folder of its own."""
    folder = tmp_path_factory.mktemp("cases")
    found: dict[str, list[Outcome]] = {}
    for table in TABLES:
        cases: list[Case | PythonCase] = [as_case(case) for case in importlib.import_module(table).CASES]
        assert len({case.name for case in cases}) == len(cases), f"{table}: two cases have one name"
        found[table] = [try_case(case, folder / table / str(i), places) for i, case in enumerate(cases)]
    print("\n" + as_table(found))
    return found


def as_case(case: Case | PythonCase | prepare_cases.Case) -> Case | PythonCase:
    """A row of the tables of inputs of `prepare` as one of the others."""
    if not isinstance(case, prepare_cases.Case):
        return case
    may_leave = ("data/raw/**", "data/.*.lock")
    return Case(case.name, f"prepare {case.arguments}", case.message, case.files, case.code, may_leave)


def as_table(found: dict[str, list[Outcome]]) -> str:
    rows = [["table", "cases", *VERDICTS, "left files"]]
    for name, outcomes in [*found.items(), ("all", [o for of in found.values() for o in of])]:
        counted = Counter(outcome.verdict for outcome in outcomes)
        left = sum(bool(outcome.left) for outcome in outcomes)
        rows.append([name, str(len(outcomes)), *(str(counted[v]) for v in VERDICTS), str(left)])
    return "\n".join("  ".join(f"{cell:>14s}" for cell in row) for row in rows)


def listed(found: dict[str, list[Outcome]], verdict: str) -> str:
    return "\n".join(f"{outcome}" for of in found.values() for outcome in of if outcome.verdict == verdict)


@pytest.mark.parametrize("verdict", ["traceback", "silent"])
def test_none_is(verdict: str, outcomes: dict[str, list[Outcome]]) -> None:
    found = listed(outcomes, verdict)
    assert not found, f"\n{found}\n{as_table(outcomes)}"


def test_at_most_three_are_unclear(outcomes: dict[str, list[Outcome]]) -> None:
    found = [o for of in outcomes.values() for o in of if o.verdict == "unclear"]
    assert len(found) <= MOST_UNCLEAR, "\n" + "\n".join(map(str, found))


def test_a_refusal_leaves_nothing_behind(outcomes: dict[str, list[Outcome]]) -> None:
    left = [o for of in outcomes.values() for o in of if o.left]
    assert not left, "\n" + "\n".join(f"{o.case.name}: {', '.join(o.left)}" for o in left)


def test_the_verdicts_tell_cases_apart(tmp_path: Path) -> None:
    """The harness itself: each verdict is reached."""
    tried = {
        "clear": Case("a", "prepare --input gone.csv", "no file gone.csv"),
        "unclear": Case("b", "prepare --input gone.csv", "quite another text"),
        "silent": Case("c", "sources", "anything"),
        "accepted": Case("d", "sources", "synthetic", code=0),
        "traceback": PythonCase("e", lambda places: 1 // 0, "zero"),
    }
    for i, (verdict, case) in enumerate(tried.items()):
        assert try_case(case, tmp_path / str(i), {}).verdict == verdict
