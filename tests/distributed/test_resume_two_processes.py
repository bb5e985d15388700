"""A resumed run is the uninterrupted one on two processes too: each draws its own numbers again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "models"))
from resumed_runs import CELLS  # noqa: E402

pytestmark = pytest.mark.process


def test_resumed_runs_are_the_uninterrupted_ones(small_folder: Path, tmp_path: Path) -> None:
    names = list(CELLS)
    clean = {k: v for k, v in os.environ.items() if k not in ("MASTER_PORT", "MASTER_ADDR", "LOCAL_RANK", "WORLD_SIZE")}
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("resume.py")), str(small_folder), str(tmp_path), *names],
        env={**clean, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600 * len(names),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for rank in range(2):
        found = json.loads((tmp_path / f"rank{rank}.json").read_text())
        assert sorted(found) == sorted(names) and all(found.values())
        assert not {f"{n}, from {start}": what for n, s in found.items() for start, what in s.items() if what}
