"""For every test: one thread, so that float sums don't depend on the machine; and a small prepared data set."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from small_data import made_events, prepared

os.environ.setdefault("OMP_NUM_THREADS", "1")
torch.set_num_threads(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all", action="store_true", help="the tests marked slow too, which take minutes")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves the tests marked slow out, unless they are asked for by `--all` or `-m`."""
    if not config.getoption("--all") and not config.getoption("markexpr"):
        slow = [item for item in items if item.get_closest_marker("slow")]
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in slow]


@pytest.fixture(scope="session")
def small_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """13 users, 9 of them long enough to be evaluated, with histories of 2 to 14 events, times, three event types."""
    return prepared(tmp_path_factory.mktemp("prepared") / "small", made_events()).path
