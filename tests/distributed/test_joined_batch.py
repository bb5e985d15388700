"""Two processes take the steps that one takes on both batches together, for every encoder and every loss."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from joined_batch import ENCODERS, settings, trained
from own_process import run_processes
from torch import Tensor

from recsys_lab.config import import_all
from recsys_lab.models import NextItemModule, encoders
from recsys_lab.runs.fit.parse_errors import concrete_subclasses

pytestmark = [pytest.mark.process, pytest.mark.slow]
Weights = dict[str, dict[str, Tensor]]


@pytest.fixture(scope="module")
def ranks(small_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Weights]:
    output = tmp_path_factory.mktemp("joined_batch")
    run_processes("joined_batch.py", small_folder, output, timeout=900)
    return [torch.load(output / f"rank{rank}.pt", weights_only=True) for rank in range(2)]


def test_every_encoder_is_there() -> None:
    import_all(encoders)
    known = concrete_subclasses(NextItemModule, str(Path(encoders.__path__[0])))
    assert set(ENCODERS) | {"BERT4Rec"} == set(known)


@pytest.mark.parametrize("name", settings())
def test_the_weights_are_those_of_one_process(name: str, ranks: list[Weights], small_folder: Path) -> None:
    one = trained(str(small_folder), settings()[name], devices=1)
    first, second = (weights[name] for weights in ranks)
    furthest = 0.0
    for part, value in first.items():
        assert torch.equal(value, second[part]), f"{part} differs between the two processes"
        furthest = max(furthest, float((value - one[part]).abs().max())) if value.is_floating_point() else furthest
    if name == "negatives of the own batch":
        assert furthest > 1e-4, "each process has negatives of its own"
    else:
        assert furthest < 1e-5
