"""The rule under equal means, on made per-user values: six cells of the grid of scripts/simulate_rule.py."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "simulate_rule.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("simulate_rule", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["simulate_rule"] = module  # its dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seeds", "users", "effects", "variance"),
    [
        (2, 1_000, "equal", "equal"),
        (3, 20_000, "equal", "equal"),
        (5, 20_000, "unequal", "ten times unequal"),
        (2, 20_000, "unequal", "one without seeds"),
        (5, 300, "unequal", "one without seeds"),
        (4, 1_000, "equal", "nil"),
    ],
)
def test_equal_means_are_called_different_at_most_so_often(
    script: ModuleType, seeds: int, users: int, effects: str, variance: str
) -> None:
    found = script.simulate(script.Cell(seeds, users, effects, variance), 4_000)
    assert found.rejected <= script.MOST == 0.065
    assert 0.6 < found.power_at_mde < 0.97  # the minimum detectable effect means what it says


def test_a_cell_is_the_same_again_and_only_the_cap_lowers_it(script: ModuleType) -> None:
    cell = script.Cell(3, 300, "unequal", "equal")
    found = script.simulate(cell, 200)
    assert found == script.simulate(cell, 200) and found != script.simulate(cell, 200, seed=1)
    assert found.rejected <= found.uncapped and found.power <= found.power_at_mde
