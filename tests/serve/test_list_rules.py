"""Lists of a predictor leave out what those of its run do: items of events of some types, of the last session, and what
can't be had when the list is wanted."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from test_predictor_of_every_model import check_same, predicted
from trained import checkpoint_of, events_of

from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.models import Markov, SASRec
from recsys_lab.serve import Predictor
from recsys_lab.serve.item_index import use_index
from recsys_lab.serve.server.answers import answer_all
from recsys_lab.serve.server.bodies import RecommendBody
from recsys_lab.serve.server.event_store import StoredEvent
from recsys_lab.serve.server.live_model import LiveModel

from shop_with_types import HOUR, made_shop, of  # isort: skip  trained.py makes them known

FIRST = 1_600_000_000
RULES: dict[str, dict[str, Any]] = {
    "none": {"exclude_seen": "none"},
    "window": {"exclude_seen": "window", "max_length": 3},
    "types": {"exclude_seen_types": ["buy", "cart"]},
    "types in the window": {"exclude_seen": "window", "exclude_seen_types": ["view"], "max_length": 3},
    "session": {"exclude_seen": "session", "sessions": "session_id"},
    "session by a pause": {"exclude_seen": "session", "sessions": "30m", "exclude_seen_types": ["view"]},
    "first_event": {"available": "first_event"},
    "events": {"available": "events", "exclude_seen": "none"},
    "fields": {"available": ["item.since", "item.until"]},
}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_shop(tmp_path_factory.mktemp("data"))


def log_of(data: SequenceDataModule) -> pl.DataFrame:
    """The events with their types and sessions, as a caller has them; the model is fed neither."""
    codes = {key: np.asarray(data.processed.field_array(key)) for key in ("event_type", "session_id")}
    columns = {key: pl.Series([None, *data.processed.field_values(key)]).gather(codes[key]) for key in codes}
    return events_of(data).with_columns(**columns)


def trained(shop: Path, folder: Path, cls: Any = Markov, **rules: Any) -> tuple[Predictor, SequenceDataModule, Any]:
    data = of(shop, fields=[], **rules)
    model = cls(embedding_dim=8) if cls is SASRec else cls()
    path = checkpoint_of(model, data, folder)
    return Predictor.load(path), data, model


@pytest.mark.parametrize("name", RULES)
def test_lists_are_those_of_predict(name: str, shop: Path, tmp_path: Path) -> None:
    one, data, model = trained(shop, tmp_path, **RULES[name])
    expected, log = predicted(model, data, tmp_path), log_of(data)
    found = one.recommend(log, 5).filter(pl.col("rank").is_not_null())
    check_same(found.with_columns(note=pl.lit(None)), expected)
    everything = one.recommend(log, 5, exclude=None, candidates=one.item_ids.raw.to_list())
    assert not everything["item_id"].equals(found["item_id"]) or name == "none", "the rule matters here"


@pytest.mark.parametrize("name", ["types", "session", "fields"])
def test_an_event_at_a_time_and_an_index_heed_them_too(name: str, shop: Path, tmp_path: Path) -> None:
    one, data, _ = trained(shop, tmp_path, SASRec, **RULES[name])
    log = log_of(data).filter(pl.col("user_id").is_in(["u03", "u04", "u05"]))
    whole = one.recommend(log, 4)
    for user, events in log.group_by("user_id", maintain_order=True):
        state = one.start(user[0])
        for event in events.drop("user_id").to_dicts():
            known = {"item_id", "timestamp", *one.reader.names("event")}
            state = one.step(state, {key: value for key, value in event.items() if key in known})
        own = whole.filter(pl.col("user") == user[0])
        assert one.top(state, 4)["item_id"].to_list() == own["item_id"].to_list()
    use_index(one, "hnsw")
    assert one.recommend(log, 4)["item_id"].to_list() == whole["item_id"].to_list()


def test_when_a_list_is_wanted_decides_what_can_be_had(shop: Path, tmp_path: Path) -> None:
    one, _, _ = trained(shop, tmp_path, **RULES["fields"])

    def listed(**asked: Any) -> list[int]:
        found = one.recommend([[0, 1], []], 12, **asked)
        return sorted(found.filter(pl.col("user") == 0)["item_id"].drop_nulls().to_list())

    early, late = FIRST + 2 * 900 + 300, FIRST + 9 * HOUR + 5 * 900 - 300  # numbers of items are kept in float32
    then: Any = {"times": [[early - 1, early], []]}
    assert listed(**then) == [2], "items 0 to 2 are there, and 0 and 1 were had"
    assert listed(**then, query_time=late) == [5, 6, 7, 8, 9, 10, 11]
    assert listed(**then, candidates=[7, 8]) == [7, 8], "who names candidates knows what can be had"
    # without times it is now, and only what has no end is there; somebody without events is asked the same
    now = one.recommend([[0, 1], []], 12)
    assert set(now["item_id"]) == {9, 10, 11} and set(now["user"]) == {0, 1}
    assert "3 of 12: there are 12 candidates, 9 of them in the history or not available then" in now["note"].to_list()
    nobody = one.recommend([[], []], 12, times=[[], []], query_time=[early, late])
    assert [sorted(of_user["item_id"]) for _, of_user in nobody.group_by("user", maintain_order=True)] == [
        [0, 1, 2],
        [5, 6, 7, 8, 9, 10, 11],
    ]


def test_a_server_asks_for_now(shop: Path, tmp_path: Path) -> None:
    trained(shop, tmp_path, **RULES["fields"])
    live = LiveModel.load(tmp_path / "model.ckpt")
    stored = {"u": [StoredEvent("u", 3, FIRST, time.time())]}
    (answer,) = answer_all(live, [RecommendBody(user="u", k=12)], stored)
    assert sorted(one["item_id"] for one in answer.items) == [9, 10, 11], "what could be had then is gone"  # type: ignore
    (answer,) = answer_all(live, [RecommendBody(user="u", k=12, query_time=FIRST + 1200.0)], stored)
    assert sorted(one["item_id"] for one in answer.items) == [0, 1]  # type: ignore


def test_the_types_of_events_are_stored_and_heeded_by_a_server(shop: Path, tmp_path: Path) -> None:
    trained(shop, tmp_path, **RULES["types"])
    live = LiveModel.load(tmp_path / "model.ckpt")
    seen = [StoredEvent("u", item, FIRST + item, 0.0, {"event_type": kind}) for item, kind in ((3, "view"), (4, "buy"))]
    for exclude, gone in (("run", {4}), ("history", {3, 4}), (None, set())):
        (answer,) = answer_all(live, [RecommendBody(user="u", k=12, exclude=exclude)], {"u": seen})  # type: ignore
        assert set(range(12)) - {one["item_id"] for one in answer.items} == gone  # type: ignore
    assert live.checked({"event_type": ["buy"]}) == {"event_type": ["buy"]}


def test_checkpoints_of_before_hide_the_history(shop: Path, tmp_path: Path) -> None:
    one, data, _ = trained(shop, tmp_path, exclude_seen="none")
    held = dict(data.vocabulary())
    assert held.pop("lists") == {"exclude_seen": "none"}
    import torch

    checkpoint = torch.load(tmp_path / "model.ckpt", weights_only=True)
    torch.save(checkpoint | {"vocabulary": held}, tmp_path / "old.ckpt")
    old = Predictor.load(tmp_path / "old.ckpt")
    assert old.recommend([[0, 1, 2]], 12).equals(one.recommend([[0, 1, 2]], 12, exclude="history"))
    assert len(one.recommend([[0, 1, 2]], 12)) == 12
