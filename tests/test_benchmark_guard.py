"""scripts/benchmarks/guard.py: what it makes of the measurements of two commits."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "benchmarks" / "guard.py"


@pytest.fixture(scope="module")
def guard() -> ModuleType:
    spec = importlib.util.spec_from_file_location("guard", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPT.parent)
        spec.loader.exec_module(module)
    return module


def rounds(*speeds: tuple[float, float]) -> list[dict]:
    """The speeds of both sides, round by round; all else is equal."""
    same = {"data": "d", "model": "SASRec", "eval_users_per_s": 10.0, "peak_rss_mb": 100.0, "preparation_s": 1.0}
    return [
        {**same, "side": side, "round": turn, "targets_per_s": speed}
        for turn, pair in enumerate(speeds)
        for side, speed in zip(("before", "after"), pair, strict=True)
    ]


def test_ratios_are_of_rounds_and_more_is_better(guard: ModuleType) -> None:
    rows = rounds((10, 20), (100, 90), (50, 45))
    rows[1]["peak_rss_mb"] = 50.0
    *_, line = guard.table(rows)
    assert line == "| d | SASRec | 0.90 [0.90, 2.00] | 1.00 [1.00, 1.00] | 1.00 [1.00, 2.00] | 1.00 [1.00, 1.00] |"


def test_slower_in_every_round_is_told(guard: ModuleType) -> None:
    assert guard.too_slow(rounds((10, 9), (100, 92), (50, 49)), 0.95) == ["d, SASRec: training 0.92"]
    assert not guard.too_slow(rounds((10, 9), (100, 92), (50, 51)), 0.95), "one round says otherwise: noise"
    assert not guard.too_slow(rounds((10, 9.6), (100, 96), (50, 48)), 0.95)


def test_a_commit_that_is_none(tmp_path: Path) -> None:
    command = [sys.executable, SCRIPT, "no-such-commit", "--even-if-busy", "--out", tmp_path / "out"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and "no-such-commit" in done.stderr and "Traceback" not in done.stderr
