"""A state after each event is what encoding the history gives, for every encoder and baseline; what is kept of a user
is the events."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal
from small_data import made_events, prepared
from trained import MAX_LENGTH, checkpoint_of, data_of, variants

from recsys_lab.contracts import Batch
from recsys_lab.models import GRU4Rec, SASRec
from recsys_lab.serve import Predictor
from recsys_lab.serve.user_state import UserState, questions
from recsys_lab.words import RecsysLabError

from found_models import BASELINES, VARIANTS, small  # isort: skip  trained.py makes it known

CLOSE: dict[str, Any] = {"rel_tol": 1e-5, "abs_tol": 1e-5}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared(tmp_path_factory.mktemp("states") / "plain", made_events(event_types=1)).path


def made_history(one: Predictor, with_fields: bool) -> list[dict[str, Any]]:
    """2 L + 1 events, one of an item that the model does not know."""
    items = one.item_ids.at(one.is_trained.nonzero()[:, 0].numpy()).to_list()
    colours = ["red", "green", None, "blue", "grey"]
    events = []
    for place in range(2 * MAX_LENGTH + 1):
        event = {"item_id": items[place * 7 % len(items)], "timestamp": 1_000_000 + place * place * 50}
        if with_fields:
            event |= {"price": None if place % 5 == 1 else 40.0 + place, "colour": colours[place % 5]}
        events.append(event if place != 3 else event | {"item_id": "unknown"})
    return events


def whole(one: Predictor, state: UserState) -> Batch:
    """The batch of all known events, of any length."""
    asked, _ = questions(one, replace(state, memory=None))
    ((_, batch),) = asked.batches(torch.arange(1).numpy(), 1000, 1, "cpu")
    return batch


def check(one: Predictor, with_fields: bool) -> list[bool]:
    """Whether the model had a state after each event."""
    age = {"user.age": 31} if with_fields else {}
    state, has_memory, so_far = one.start("a user", **age), [], []
    for event in made_history(one, with_fields):
        before, state = state, one.step(state, event)
        so_far.append(event)
        assert len(before.events) == len(state.events) - 1
        has_memory.append(state.memory is not None)
        if state.memory is not None:
            with torch.inference_mode():
                torch.testing.assert_close(
                    state.memory.query, one.model.encode_last(whole(one, state)), rtol=1e-5, atol=1e-5
                )
        if state.memory is None or state.known <= MAX_LENGTH:
            frame = pl.DataFrame(so_far, infer_schema_length=None, strict=False).with_columns(user_id=pl.lit("a user"))
            frame = frame.with_columns(pl.col("item_id").cast(pl.String), **{k: pl.lit(v) for k, v in age.items()})
            assert_frame_equal(one.top(state, 5), one.recommend(frame, 5), check_exact=False, **CLOSE)
    assert state.known == len(so_far) - 1
    return has_memory


@pytest.mark.parametrize("name", variants(with_states=True))
def test_every_encoder_at_every_length(name: str, folder: Path, tmp_path: Path) -> None:
    cls, settings = VARIANTS[name]
    model = small(cls, **settings)
    mode: Any = "last_position" if model.last_positions_only else "all_positions"
    one = Predictor.load(checkpoint_of(model, data_of(folder, True, training_mode=mode), tmp_path, steps=1))
    has_memory = check(one, with_fields=True)
    if isinstance(one.model, GRU4Rec):
        assert all(has_memory)
    if type(one.model) is SASRec:  # one event of them is unknown
        full = MAX_LENGTH + 1
        assert has_memory == [name != "SASRec-positions-from-end"] * full + [False] * (len(has_memory) - full)


@pytest.mark.slow
@pytest.mark.parametrize("cls", BASELINES)
def test_every_baseline(cls: Any, folder: Path, tmp_path: Path) -> None:
    assert not any(check(Predictor.load(checkpoint_of(cls(), data_of(folder), tmp_path)), with_fields=False))


@pytest.fixture
def gru(folder: Path, tmp_path: Path) -> Predictor:
    return Predictor.load(checkpoint_of(GRU4Rec(embedding_dim=8), data_of(folder), tmp_path))


def test_a_state_goes_two_ways(gru: Predictor) -> None:
    items = gru.item_ids.at(gru.is_trained.nonzero()[:, 0].numpy()).to_list()
    common = gru.step(gru.step(gru.start(), items[0]), items[1])
    left, right = gru.step(common, items[2]), gru.step(common, items[3])
    for state, history in ((common, items[:2]), (left, items[:3]), (right, [*items[:2], items[3]])):
        assert [event.item for event in state.events] == history
        assert_frame_equal(gru.top(state, 3), gru.recommend({0: history}, 3), check_exact=False, **CLOSE)
    assert gru.top(gru.start("new"), 3)["source"].to_list() == ["popularity"] * 3
    blocked = gru.top(left, 3)["item_id"][0]
    assert blocked not in gru.top(left, 100, blocked=[blocked])["item_id"].to_list()
    assert items[0] in gru.top(left, 100, exclude=None)["item_id"].to_list()


def test_another_model_makes_the_state_anew_from_the_events(gru: Predictor, folder: Path, tmp_path: Path) -> None:
    other = Predictor.load(checkpoint_of(SASRec(embedding_dim=8), data_of(folder), tmp_path))
    items = gru.item_ids.at(gru.is_trained.nonzero()[:, 0].numpy()).to_list()
    state = gru.start("u")
    for place, item in enumerate(items[:4]):
        state = gru.step(state, {"item_id": item, "timestamp": 1_000 + place})
    times = [[1_000, 1_001, 1_002, 1_003]]
    assert_frame_equal(
        other.top(state, 3), other.recommend({"u": items[:4]}, 3, times=times), check_exact=False, **CLOSE
    )
    on = other.step(state, {"item_id": items[4], "timestamp": 1_009})
    expected = other.recommend({"u": items[:5]}, 3, times=[[*times[0], 1_009]])
    assert_frame_equal(other.top(on, 3), expected, check_exact=False, **CLOSE)
    assert on.model is other.model and state.model is gru.model


def test_what_no_event_can_be(gru: Predictor) -> None:
    state = gru.step(gru.start("u"), {"item_id": 101, "timestamp": 500})
    for event, says in (
        ({"item": 3}, "an event is an item's id, or a dict with 'item_id': this one has item"),
        ({"item_id": 101, "timestamp": 499}, "timestamp 499 of user 'u' is before its last event"),
        ({"item_id": 101}, "events of one user have a timestamp each, or none has: user 'u' has both"),
        ({"item_id": 101, "timestamp": float("nan")}, "seconds since 1970"),
        ({"item_id": 101, "timestamp": 501, "price": 3}, "the model is fed no field 'price'; known: none"),
    ):
        with pytest.raises(RecsysLabError, match=re.escape(says)):
            gru.step(state, event)
        assert len(state.log) == 1, "nothing of it is kept"
    with pytest.raises(RecsysLabError, match="no field 'user.age' of users; known: none"):
        gru.start("u", **{"user.age": 3})
