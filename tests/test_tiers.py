"""Which tests run, and what `scripts/test.sh` is made of."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from tiers import LATER, is_asked_for

ROOT = Path(__file__).parents[1]
HERE = Path(__file__)


@pytest.mark.parametrize(
    ("arguments", "runs"),
    [
        (["tests"], {"quick"}),
        (["tests/test_tiers.py"], {"quick", "starts"}),
        (["tests/test_tiers.py", "tests/test_tiers.py::test_s"], {"quick", "starts", "long[a]", "both"}),
        (["tests/test_tiers.py::test_s[a]"], {"quick", "long[a]"}),
        (["tests/test_readme.py"], {"quick"}),
    ],
)
def test_a_named_test_runs_whatever_its_tier(arguments: list[str], runs: set[str]) -> None:
    """quick is what pytest has collected besides: that it is asked for is pytest's own matter."""
    tests = {
        "quick": ([], "test_q"),
        "starts": (["process"], "test_p"),
        "long[a]": (["slow"], "test_s[a]"),
        "both": (["process", "slow"], "test_s[b]"),
    }
    found = {
        name
        for name, (markers, test) in tests.items()
        if is_asked_for(markers, f"tests/test_tiers.py::{test}", HERE, arguments, ROOT)
    }
    assert found == runs


def test_the_markers_are_registered(pytestconfig: pytest.Config) -> None:
    known = {line.partition(":")[0] for line in pytestconfig.getini("markers")}
    assert known >= set(LATER)


def test_the_script_says_what_it_does() -> None:
    done = subprocess.run(["bash", str(ROOT / "scripts" / "test.sh"), "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    assert all(word in done.stdout for word in ("--all", "ruff", "mypy", "pytest", *LATER))


def test_continuous_integration_runs_every_tier() -> None:
    assert (ROOT / ".ci" / "run").read_text().splitlines()[-1] == "exec bash scripts/test.sh --all"
