"""Evaluation's short cut: the hidden state at the last event alone is what the whole encoder gives there."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from recsys_lab.contracts import Batch
from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.models import SASRec
from recsys_lab.models.module import last_position


@pytest.mark.parametrize("positions", ["start", "end"])
@pytest.mark.parametrize("num_layers", [1, 3])
def test_query_is_the_last_hidden_state(small_folder: Path, positions: str, num_layers: int) -> None:
    data = SequenceDataModule(str(small_folder), max_length=12, eval_batch_size=64)
    torch.manual_seed(0)
    model = SASRec(embedding_dim=16, num_layers=num_layers, num_heads=4, positions=positions)  # type: ignore[arg-type]
    model._build(data.spec)
    for parameter in model.parameters():  # biases and norms start at 0 and 1, which would hide a forgotten one
        parameter.data += 0.3 * torch.randn_like(parameter)
    model.double().eval()
    batch = next(iter(data.test_dataloader()))
    assert len(batch.lengths.unique()) > 2
    torch.testing.assert_close(model.query(batch), last_position(model.encode(batch), batch.lengths))


def test_an_encoder_derived_from_sasrec_is_evaluated_by_its_own_encode(small_folder: Path) -> None:
    class Doubled(SASRec):
        def encode(self, batch: Batch) -> torch.Tensor:
            return 2 * super().encode(batch)

    data = SequenceDataModule(str(small_folder), max_length=6)
    model = Doubled(embedding_dim=16)
    model._build(data.spec)
    model.eval()
    batch = next(iter(data.test_dataloader()))
    torch.testing.assert_close(model.query(batch), last_position(model.encode(batch), batch.lengths))
