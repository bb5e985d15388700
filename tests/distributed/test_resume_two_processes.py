"""A resumed run is the uninterrupted one on two processes too: each draws its own numbers again."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from own_process import run_processes

sys.path.insert(0, str(Path(__file__).parent.parent / "models"))
from resumed_runs import CELLS  # noqa: E402

pytestmark = pytest.mark.process


def test_resumed_runs_are_the_uninterrupted_ones(small_folder: Path, tmp_path: Path) -> None:
    names = list(CELLS)
    run_processes("resume.py", small_folder, tmp_path, *names, timeout=600 * len(names))
    for rank in range(2):
        found = json.loads((tmp_path / f"rank{rank}.json").read_text())
        assert sorted(found) == sorted(names) and all(found.values())
        assert not {f"{n}, from {start}": what for n, s in found.items() for start, what in s.items() if what}
