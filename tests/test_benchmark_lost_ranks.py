"""Three of the kills of scripts/benchmarks/lost_ranks.py, under torchrun, with the losses of every step."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from own_process import alone

SCRIPT = Path(__file__).parent.parent / "scripts" / "benchmarks" / "lost_ranks.py"


def report(*options: str) -> str:
    done = subprocess.run([sys.executable, str(SCRIPT), *options], env=alone(), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_three_lost_ranks() -> None:
    printed = report("--kills", "3", "--seed", "1")
    assert "| ranks killed | 3: " in printed
    assert (
        "steps of both ranks, bit for bit | equal |" in printed and "| last weights, bit for bit | equal |" in printed
    )


@pytest.mark.slow
def test_a_rank_that_stops_answering_is_noticed() -> None:
    assert "with a time-out of 10 s" in report("--kills", "0", "--hang", "--timeout", "10")


@pytest.mark.slow
def test_a_node_that_is_cut_off_is_noticed_and_goes_on() -> None:
    printed = report("--kills", "0", "--nodes", "--timeout", "10")
    if "skipped" in printed:
        pytest.skip(printed.splitlines()[-1])
    assert "a node that is cut off | noticed after" in printed
    assert "both nodes started again: losses and last weights, bit for bit | equal |" in printed
