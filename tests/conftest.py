"""For every test: one thread, so that float sums don't depend on the machine; and a small prepared data set."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from small_data import made_events, prepared

os.environ.setdefault("OMP_NUM_THREADS", "1")
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def small_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """13 users, 9 of them long enough to be evaluated, with histories of 2 to 14 events, times, three event types."""
    return prepared(tmp_path_factory.mktemp("prepared") / "small", made_events()).path
