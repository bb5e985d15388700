"""Slips in Python are one clear line each (`python_cases.py`); the slow tier counts all tables (`test_counts.py`)."""

from __future__ import annotations

from pathlib import Path

import pytest
from case import PythonCase, try_case
from fit_cases import TINY
from python_cases import CASES
from small_data import made_events, prepared

from recsys_lab.cli import main


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("places")
    prepared(folder / "data" / "small", made_events())
    arguments = f"{TINY} --run.folder {folder / 'run'}".replace("$DATA", str(folder / "data"))
    assert main(arguments.split()) == 0
    return {"RUN": str(folder / "run"), "DATA": str(folder / "data")}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_slip(case: PythonCase, places: dict[str, str], tmp_path: Path) -> None:
    outcome = try_case(case, tmp_path, places)
    assert outcome.verdict == "clear" and not outcome.left, str(outcome)
