"""Sparse gradients between two processes: both end with the weights that one process reaches with twice the batch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from own_process import run_processes
from row_sparse import BATCH, run

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def folder(small_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("row_sparse")
    run_processes("row_sparse.py", small_folder, output)
    return output


@pytest.mark.parametrize("optimizer", ["rowwise_adagrad", "sparse_adam"])
def test_two_processes_take_the_steps_of_one_with_twice_the_batch(
    optimizer: str, folder: Path, small_folder: Path
) -> None:
    run(str(small_folder), folder, optimizer, devices=1, batch_size=2 * BATCH)
    names = (f"{optimizer}-1-rank0", f"{optimizer}-2-rank0", f"{optimizer}-2-rank1")
    one, first, second = (torch.load(folder / f"{name}.pt", weights_only=True) for name in names)
    assert one["steps"] == first["steps"] > 4
    for name, value in first["weights"].items():
        assert torch.equal(value, second["weights"][name]), f"{name} differs between the two processes"
        torch.testing.assert_close(
            value, one["weights"][name], rtol=0, atol=1e-5, msg=lambda text, n=name: f"{n}: {text}"
        )


@pytest.mark.parametrize("optimizer", ["rowwise_adagrad", "sparse_adam"])
def test_a_backend_that_adds_no_sparse_gradients_takes_the_same_steps(optimizer: str, folder: Path) -> None:
    """Both processes pass each other rows and values, instead of a sparse sum of the backend's."""
    added, first, second = (
        torch.load(folder / f"{optimizer}{way}.pt", weights_only=True)["weights"]
        for way in ("-2-rank0", "-rows-2-rank0", "-rows-2-rank1")
    )
    for name, value in first.items():
        assert torch.equal(value, second[name]), f"{name} differs between the two processes"
        torch.testing.assert_close(value, added[name], rtol=0, atol=1e-6, msg=lambda text, n=name: f"{n}: {text}")
