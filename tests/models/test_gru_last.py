"""Evaluation's short cut of GRU4Rec: the state behind the last event alone is what `torch.nn.GRU` gives there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from found_models import SPEC, built, random_batch
from torch import nn

from recsys_lab.contracts import Batch, DataSpec
from recsys_lab.models import GRU4Rec
from recsys_lab.models.blocks.embedding import EventEmbedding
from recsys_lab.models.encoders import gru4rec
from recsys_lab.models.module import last_position
from recsys_lab.ops.last_gru_state import last_gru_state

LENGTHS = [3, 1, 7, 7, 2, 1, 5]


@pytest.fixture
def stepped(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Of each call of the short cut: how many distinct inputs it multiplied."""
    found: list[int] = []

    def noted(gru: nn.GRU, rows: torch.Tensor, *rest: Any) -> torch.Tensor:
        found.append(len(rows))
        return last_gru_state(gru, rows, *rest)

    monkeypatch.setattr(gru4rec, "last_gru_state", noted)
    return found


@pytest.mark.parametrize("settings", [{}, {"hidden_dim": 24}, {"residual": True}, {"hidden_dim": 5, "residual": True}])
@pytest.mark.parametrize("lengths", [LENGTHS, LENGTHS * 30])  # fewer events than items, and more
def test_last_states_are_those_of_the_network(stepped: list[int], settings: dict[str, Any], lengths: list[int]) -> None:
    model = built(GRU4Rec, num_layers=1, **{"hidden_dim": None, **settings}).double()
    batch = random_batch(lengths)
    with torch.inference_mode():
        found = model.query(batch)
        torch.testing.assert_close(found, last_position(model.encode(batch), batch.lengths))
    assert len(stepped) == 1


def test_an_item_of_many_events_is_multiplied_once(stepped: list[int]) -> None:
    spec = replace(SPEC, fields=())  # an event is its item alone
    model = built(GRU4Rec, spec, num_layers=1)
    few, many = random_batch([2, 3], spec), random_batch(LENGTHS * 30, spec)
    with torch.inference_mode():
        for batch in (few, many):
            torch.testing.assert_close(model.query(batch), last_position(model.encode(batch), batch.lengths))
    assert stepped == [few.item_ids.numel(), SPEC.num_rows] and SPEC.num_rows < many.item_ids.numel()


@pytest.mark.parametrize("part", ["embedding", "embedding.items"])
def test_vectors_that_a_hook_exchanges_are_those_that_count(part: str) -> None:
    spec = replace(SPEC, fields=())
    model, batch = built(GRU4Rec, spec, num_layers=1), random_batch(LENGTHS * 30, spec)
    with torch.inference_mode():
        before = model.query(batch)
        handle = model.get_submodule(part).register_forward_hook(lambda _, __, vectors: vectors.flip(-1))
        exchanged, whole = model.query(batch), last_position(model.encode(batch), batch.lengths)
        handle.remove()
        torch.testing.assert_close(exchanged, whole)
        assert not torch.allclose(exchanged, before) and torch.equal(model.query(batch), before)


def test_what_a_subclass_builds_is_what_counts() -> None:
    class Doubled(EventEmbedding):
        def forward(self, batch: Batch) -> torch.Tensor:
            return 2 * super().forward(batch)

    class OtherVectors(GRU4Rec):
        def build(self, spec: DataSpec) -> None:
            super().build(spec)
            self.embedding = Doubled(spec, self.settings.embedding_dim)

    class OtherNetwork(GRU4Rec):
        def build(self, spec: DataSpec) -> None:
            super().build(spec)
            self.gru = nn.RNN(self.settings.embedding_dim, self.settings.embedding_dim, batch_first=True)  # type: ignore

    spec = replace(SPEC, fields=())
    batch = random_batch(LENGTHS * 30, spec)
    for cls in (OtherVectors, OtherNetwork):
        model = built(cls, spec, num_layers=1, hidden_dim=None)
        with torch.inference_mode():
            torch.testing.assert_close(model.query(batch), last_position(model.encode(batch), batch.lengths))


def test_gradients_and_several_layers_take_the_network_itself(stepped: list[int]) -> None:
    batch = random_batch(LENGTHS)
    assert built(GRU4Rec, num_layers=1).query(batch).requires_grad
    with torch.no_grad():
        built(GRU4Rec, num_layers=2).query(batch)
    assert not stepped
