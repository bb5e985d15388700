"""A run of two processes that is stopped inside an epoch goes on with one or three: each window comes once."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from other_number import run
from own_process import run_processes

pytestmark = pytest.mark.process
STOPPED = 2
"""Steps of the first epoch that two processes took."""


def read(folder: Path, devices: int, part: str) -> tuple[list[list[Any]], dict[str, Any]]:
    """Windows of all ranks, and the facts of the first."""
    every = [json.loads((folder / f"{devices}-{part}-rank{rank}.json").read_text()) for rank in range(devices)]
    return [window for one in every for window in one["windows"]], every[0]


def windows_of(seen: list[list[Any]], epoch: int, first: int = 0, stop: int = 10**9) -> Counter[tuple[int, ...]]:
    return Counter(tuple(window) for e, batch, window in seen if e == epoch and first <= batch < stop)


@pytest.fixture(scope="module")
def folder(small_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("other")
    run_processes("other_number.py", small_folder, output, 2, "-")
    return output


@pytest.mark.parametrize("devices", [1, 3])
def test_each_window_comes_once(
    devices: int, folder: Path, small_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoint = str(folder / f"step={STOPPED}.ckpt")
    if devices == 1:
        run(str(small_folder), folder, 1, checkpoint)
        assert "had 2 processes and goes on with 1" in caplog.text and "not bit by bit" in caplog.text
    else:
        run_processes("other_number.py", small_folder, folder, devices, checkpoint)
    (before, whole), (after, rest) = read(folder, 2, "whole"), read(folder, devices, "rest")
    assert whole["steps"] // 2 > STOPPED + 1
    every = windows_of(before, epoch=0)
    assert set(every.values()) == {1} and len(every) > 10
    assert windows_of(before, 0, 0, STOPPED) + windows_of(after, 0) == every
    assert {batch for epoch, batch, _ in after if epoch == 0} == set(range(STOPPED, whole["steps"] // 2))
    assert windows_of(after, epoch=1) == every
    assert rest["steps"] == whole["steps"] // 2 + rest["batches"]
    after_one_epoch = torch.load(folder / f"{devices}-rest-rank0.pt", weights_only=True)[0]
    for name, value in torch.load(folder / "2-whole-rank0.pt", weights_only=True)[0].items():
        torch.testing.assert_close(after_one_epoch[name], value, rtol=0, atol=1e-5, msg=lambda text, n=name: n + text)
