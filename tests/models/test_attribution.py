"""What each event adds to a score, for every encoder: shapes, sums, and each method against its definition."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from found_models import SPEC, VARIANTS, built, random_batch, row_alone

from recsys_lab.contracts import DataSpec, Field
from recsys_lab.diagnose.explain import attribution
from recsys_lab.diagnose.explain.asked_model import AskedModel, without_events
from recsys_lab.diagnose.explain.attribution import METHODS, attribute, fields_left_out
from recsys_lab.models import GRU4Rec, SASRec
from recsys_lab.models.baselines import Popularity
from recsys_lab.models.blocks.inputs import Inputs
from recsys_lab.words import RecsysLabError

COUNTS = torch.arange(SPEC.num_rows) % 4
DRAWS = 3
FIELDS = (
    Field("event_type", "event", "categorical", 5),
    Field("price", "event", "numeric"),
    Field("genre", "item", "multi", 6, width=2),
    Field("age", "user", "numeric"),
)
WITH_FIELDS: DataSpec = dataclasses.replace(SPEC, fields=FIELDS)


def asked_of(name: str, length: int = 7, **settings: Any) -> AskedModel:
    cls, own = VARIANTS[name]
    return AskedModel(built(cls, **own, **settings), random_batch([length]), 5, COUNTS, draws=DRAWS)


def with_fields(cls: Any, **settings: Any) -> AskedModel:
    model = built(cls, WITH_FIELDS, **settings)
    draw = torch.Generator().manual_seed(1)
    for part in model.embedding.items.parts:
        part.values.copy_(torch.randint(2, 6, part.values.shape, generator=draw))
    spec = dataclasses.replace(WITH_FIELDS, fields=FIELDS[:1])
    batch = random_batch([7], spec)
    event = {**batch.event, "price": torch.randn(1, 7, 2, generator=draw)}
    return AskedModel(
        model, dataclasses.replace(batch, event=event, user={"age": torch.randn(1, 2, generator=draw)}), 5, COUNTS
    )


@pytest.mark.parametrize("name", VARIANTS)
def test_every_encoder(name: str) -> None:
    asked = asked_of(name)
    everything = torch.ones(1, 7, dtype=torch.bool)
    assert float(asked.keeping(everything)[0]) == pytest.approx(asked.whole, abs=1e-5), "the parts make the vectors"
    assert asked.whole < 0 and np.isfinite(asked.nothing)
    for method in METHODS:
        found = attribute(asked, method)
        assert found.events is None or (found.events.shape == (7,) and np.isfinite(found.events).all())
        assert found.events is not None or (
            method == "attention" and f"{type(asked.model).__name__} has no" in found.note
        )
    found = attribute(asked, "integrated_gradients")
    assert found.events.sum() == pytest.approx(asked.whole - asked.nothing, abs=0.01), "complete"
    assert found.gap == pytest.approx(found.events.sum() - (asked.whole - asked.nothing))
    np.testing.assert_allclose(sum(found.parts.values()), found.events)
    assert list(found.parts) == ["item", "event_type"]


@pytest.mark.parametrize("name", ["SASRec", "GRU4Rec", "BERT4Rec", "FMLPRec"])
def test_leaving_out_against_a_loop_over_other_batches(name: str) -> None:
    """The same by ids: a batch with the stand-in's item and field in the place of the event."""
    asked = asked_of(name)
    draw = torch.Generator().manual_seed(0)
    items = torch.multinomial(COUNTS.float(), DRAWS * 7, True, generator=draw).view(DRAWS, 7)
    others = torch.randint(7, (DRAWS, 7), generator=draw)
    found, kinds = attribute(asked, "leave_one_out").events, asked.batch.event["event_type"]
    for place in range(7):
        values = []
        for k in range(DRAWS):
            ids, types = asked.batch.item_ids.clone(), kinds.clone()
            ids[0, place], types[0, place] = items[k, place], kinds[0, others[k, place]]
            one = dataclasses.replace(asked.batch, item_ids=ids, event={"event_type": types})
            scores = asked.model.score(asked.model.query(one))[0].masked_fill(COUNTS == 0, float("-inf"))
            values.append(float(scores.log_softmax(0)[5]))
        assert found[place] == pytest.approx(asked.whole - np.mean(values), abs=1e-4)


def test_removal_is_a_shorter_history() -> None:
    asked = asked_of("GRU4Rec")
    found = attribute(asked, "removal").events
    kept = [0, 1, 2, 4, 5, 6]
    shorter = without_events(asked.batch, torch.tensor([[place in kept for place in range(7)]]))
    assert torch.equal(shorter.item_ids, asked.batch.item_ids[:, kept]) and int(shorter.lengths[0]) == 6
    assert torch.equal(shorter.event["event_type"], asked.batch.event["event_type"][:, kept])
    with torch.no_grad():
        value = float(asked.log_probability(asked.model.query(shorter))[0])
    assert found[3] == pytest.approx(asked.whole - value, abs=1e-5)
    alone = attribute(asked_of("GRU4Rec", length=1), "removal")
    assert alone.events is None and "one event" in alone.note


@pytest.mark.parametrize(
    "settings", [{}, {"inputs": Inputs(fields="concat", items="gate")}, {"inputs": Inputs(user="first")}]
)
@pytest.mark.parametrize("cls", [SASRec, GRU4Rec])
def test_fields(cls: Any, settings: dict[str, Any]) -> None:
    if "inputs" in settings and cls is GRU4Rec and settings["inputs"].user == "first":
        settings = {"inputs": Inputs(items="concat")}
    asked = with_fields(cls, **settings)
    assert asked.names == ["item", "item.genre", "event_type", "price"]
    everything = torch.ones(1, 7, dtype=torch.bool)
    assert float(asked.keeping(everything)[0]) == pytest.approx(asked.whole, abs=1e-5)
    found = attribute(asked, "integrated_gradients")
    assert list(found.parts) == asked.names
    assert found.events.sum() == pytest.approx(asked.whole - asked.nothing, abs=0.01)
    left_out = fields_left_out(asked)
    assert list(left_out) == [*asked.names, "user.age"]
    user = dataclasses.replace(asked.batch, user={"age": torch.zeros(1, 2)})
    with torch.no_grad():
        value = float(asked.log_probability(asked.model.query(user))[0])
    assert left_out["user.age"] == pytest.approx(asked.whole - value, abs=1e-5)
    assert all(value != 0 for value in left_out.values())


def test_what_can_not_be_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Popularity()
    model._build(SPEC)
    with pytest.raises(RecsysLabError, match="Popularity counts, and encodes no events"):
        AskedModel(model, random_batch([3]), 1, COUNTS)
    monkeypatch.setattr(attribution, "has_captum", lambda: False)
    with pytest.raises(RecsysLabError, match=r"pip install 'recsys-lab\[explain\]'"):
        attribute(asked_of("GRU4Rec"), "integrated_gradients")


def test_equal_events_are_ordered_the_newest_first() -> None:
    found = attribution.Attribution("removal", np.array([0.0, 2.0, 0.0, 1.0]))
    assert found.order.tolist() == [1, 3, 2, 0]
    assert row_alone(random_batch([4, 2]), 1).item_ids.shape == (1, 2)
