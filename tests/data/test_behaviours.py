"""Event types as targets, weights of targets, sessions and availability: what a batch then holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from shop_with_types import made_shop, of, training_targets, types_of
from small_data import quiet_trainer

from recsys_lab.data.batches.windows import training_windows, windows_in_sessions
from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.data.prepare.pipeline import PrepareSettings
from recsys_lab.data.split.leave_one_out import GlobalTemporal, LeaveKOut
from recsys_lab.evaluation import RankingEvaluation
from recsys_lab.evaluation.recommendations import Recommendations
from recsys_lab.models import GRU4Rec, Optimization
from recsys_lab.models.checkpoint import other_training
from recsys_lab.words import RecsysLabError


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_shop(tmp_path_factory.mktemp("data"))


# -- targets by type ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["all_positions", "last_position"])
def test_only_named_types_are_predicted_and_each_once(shop: Path, mode: Any) -> None:
    data = of(shop, target_types=["buy"], training_mode=mode)
    offsets, stop = data.processed.offsets, data.split_result.train_stop
    every = [p for u in range(40) for p in range(offsets[u] + 1, stop[u])]
    wanted = [p for p, name in zip(every, types_of(data, every), strict=True) if name == "buy"]
    seen: list[int] = []
    for windows in data.train_dataloader().sampler:
        batch = data.train_dataloader().dataset[windows]
        assert (batch.target_ids != 0).any(dim=1).all(), "no window without a target"
        start = torch.from_numpy(data.train_windows.start[windows])
        row, column = (batch.target_ids != 0).nonzero(as_tuple=True)
        seen += (start[row] + column + 1).tolist()
        assert batch.target_positions.tolist() == (batch.target_ids != 0).flatten().nonzero().squeeze(1).tolist()
    assert sorted(seen) == wanted == sorted(training_targets(data))
    everything = [b.item_ids for b in of(shop).train_dataloader()]
    assert sum(int((ids != 0).sum()) for ids in everything) > len(seen), "all types stay in the inputs"


def test_leave_one_out_takes_the_last_of_the_types(shop: Path) -> None:
    data = of(shop, target_types=["buy"])
    offsets, result = data.processed.offsets, data.split_result
    for user, position in zip(result.test.user_index, result.test.position, strict=True):
        own = [p for p in range(offsets[user] + 1, offsets[user + 1]) if types_of(data, [p]) == ["buy"]]
        assert position == own[-1] and len(own) >= 3
        (val,) = result.val.position[result.val.user_index == user]
        assert val == own[-2] and result.train_stop[user] == val
        assert result.final is not None and result.final.train_stop[user] == position
    kept = np.setdiff1d(np.arange(40), result.test.user_index)
    assert len(kept) and (result.train_stop[kept] == offsets[1:][kept]).all()


def test_leave_k_out_of_types(shop: Path) -> None:
    data = of(shop, target_types=["view"], split=LeaveKOut(2))
    test = data.split_result.test
    assert test.query is not None and set(types_of(data, test.position)) == {"view"}
    assert (test.query <= test.position).all() and set(types_of(data, test.query)) == {"view"}


@pytest.mark.parametrize("rule", ["last", "first", "random", "all", "together"])
def test_a_split_by_time_applies_its_rule_to_the_types(shop: Path, rule: Any) -> None:
    data, whole = (
        of(shop, split=GlobalTemporal(0.7, 0.8, target=rule), **more) for more in ({"target_types": ["buy"]}, {})
    )
    test, cut = data.split_result.test, data.split_result.cut_time
    assert cut == whole.split_result.cut_time and np.array_equal(
        data.split_result.train_stop, whole.split_result.train_stop
    )
    assert set(types_of(data, test.position)) == {"buy"}
    every = of(shop, split=GlobalTemporal(0.7, 0.8, target="all")).split_result.test.position
    buys = [p for p in every if types_of(data, [p]) == ["buy"]]
    if rule in ("all", "together"):
        assert set(test.position) <= set(buys) and (rule == "together" or test.position.tolist() == buys)
        return
    assert (
        len(set(test.user_index))
        == len(test)
        == len({np.searchsorted(data.processed.offsets, p, "right") for p in buys})
    )
    if rule != "random":
        own = {
            int(np.searchsorted(data.processed.offsets, p, "right") - 1): p
            for p in (buys if rule == "last" else buys[::-1])
        }
        assert test.position.tolist() == [own[u] for u in sorted(own)]


def test_names_of_types_are_checked(shop: Path, tmp_path: Path) -> None:
    with pytest.raises(
        RecsysLabError, match="--data.target_types: no event is of type 'by'; shop has buy, cart, view. Did"
    ):
        assert of(shop, target_types=["by"]).split_result
    with pytest.raises(RecsysLabError, match="--data.target_types is empty: name event types; shop has buy"):
        assert of(shop, target_types=[]).split_result
    with pytest.raises(RecsysLabError, match="--data.exclude_seen_types: no event is of type 'x'"):
        assert of(shop, exclude_seen_types=["x"]).rules
    with pytest.raises(RecsysLabError, match="exclude_seen_types changes nothing with --data.exclude_seen none"):
        assert of(shop, exclude_seen_types=["buy"], exclude_seen="none").rules
    frame = pl.DataFrame({"user_id": [1, 1, 1] * 3, "item_id": [1, 2, 3] * 3})
    bare = SequenceDataModule.from_frames(frame, data_dir=tmp_path, target_types=["buy"])
    with pytest.raises(RecsysLabError, match="--data.target_types: .* has no event types"):
        assert bare.split_result


def test_two_systems_where_the_targets_differ(shop: Path) -> None:
    plain, buys = of(shop), of(shop, target_types=["buy"])
    assert plain.spec.training_hash != buys.spec.training_hash and "target_types" not in plain.spec.training
    assert buys.evaluation_settings()["target_types"] == ["buy"]
    said = "--data.target_types: trained with None, asked ['buy']"
    assert other_training(plain.spec, buys.spec) == [said], "and no hash, which follows from it"
    assert buys.sees_targets(plain.spec.training, "test"), "it has trained on events after the last but one buy"
    assert not buys.sees_targets(buys.spec.training, "test")


# -- what ranking leaves out -------------------------------------------------------------------------------------------


def seen_by_hand(
    data: SequenceDataModule, user: int, stop: int, types: Any = None, first: int | None = None
) -> set[int]:
    begin = int(data.processed.offsets[user]) if first is None else first
    return {
        int(data.processed.item_ids[p]) for p in range(begin, stop) if types is None or types_of(data, [p])[0] in types
    }


@pytest.mark.parametrize("types", [None, ["buy"], ["buy", "cart"]])
def test_seen_items_of_some_types(types: Any, shop: Path) -> None:
    data = of(shop, exclude_seen_types=types)
    for batch in data.test_dataloader():
        assert batch.seen_ids is not None and batch.seen_offsets is not None and batch.target_event is not None
        for row in range(len(batch)):
            got = batch.seen_ids[batch.seen_offsets[row] : batch.seen_offsets[row + 1]].tolist()
            assert len(set(got)) == len(got)
            assert set(got) == seen_by_hand(data, int(batch.user_index[row]), int(batch.target_event[row]), types)
    assert ("exclude_seen_types" in data.evaluation_settings()) is (types is not None)


@pytest.mark.parametrize("available", ["first_event", "events", ["item.since", "item.until"]])
def test_only_what_can_be_had_is_a_candidate(available: Any, shop: Path, tmp_path: Path) -> None:
    data = of(shop, available=available, exclude_seen="none")
    items, times = np.asarray(data.processed.item_ids), np.asarray(data.processed.timestamps)
    since = {i: times[items == i].min() for i in range(1, 13)}
    until = {i: times[items == i].max() if available == "events" else np.inf for i in range(1, 13)}
    if isinstance(available, list):
        since, until = ({i + 1: v for i, v in enumerate(data.processed.field_array(key))} for key in available)
        until = {i: np.inf if np.isnan(v) else v for i, v in until.items()}
    left_out = 0
    for batch in data.test_dataloader():
        assert batch.seen_ids is not None and batch.seen_offsets is not None and batch.query_time is not None
        for row in range(len(batch)):
            got = batch.seen_ids[batch.seen_offsets[row] : batch.seen_offsets[row + 1]].tolist()
            now = int(batch.query_time[row])
            assert got == [i for i in range(1, 13) if not since[i] <= now <= until[i]]
            left_out += len(got)
    assert left_out
    evaluation = RankingEvaluation()
    quiet_trainer(tmp_path, callbacks=[evaluation]).test(GRU4Rec(embedding_dim=8), data, verbose=False)
    counts = evaluation.ranks_frame(data)["num_candidates"]
    assert counts.min() < 12 and data.evaluation_settings()["available"] == available  # type: ignore[operator]


@pytest.mark.parametrize(
    ("available", "text"),
    [
        (["item.since"], "takes first_event, events or two fields, not"),
        (
            ["item.since", "item.till"],
            "'item.till' is no field of the data; numbers of the items: item.since, item.until",
        ),
        (["worth", "item.since"], "'worth' is numeric, of the events"),
    ],
)
def test_availability_that_can_not_be(available: Any, text: str, shop: Path) -> None:
    with pytest.raises(RecsysLabError, match=f"--data.available.*{text}"):
        assert of(shop, available=available).rules


# -- sessions ----------------------------------------------------------------------------------------------------------


def session_of(data: SequenceDataModule, position: int) -> int:
    return int(np.asarray(data.processed.field_array("session_id"))[position])


@pytest.mark.parametrize("sessions", ["session_id", "1h"])
def test_windows_stop_at_a_session(sessions: str, shop: Path) -> None:
    data = of(shop, sessions=sessions, window_within="session", exclude_seen="session", max_length=3)
    windows = data.train_windows
    for start, stop, first in zip(windows.start, windows.stop, windows.first_target, strict=True):
        assert len({session_of(data, p) for p in range(start, stop)}) == 1 and stop - start <= 3
        assert start < first <= stop
    seen = sorted(p for f, s in zip(windows.first_target, windows.stop, strict=True) for p in range(f, s + 1))
    plain = of(shop)
    assert seen == sorted(training_targets(plain)), "every training target counts once"
    for batch in data.test_dataloader():
        for row in range(len(batch)):
            assert batch.target_event is not None and batch.seen_ids is not None and batch.seen_offsets is not None
            stop = int(batch.target_event[row])
            own = [p for p in range(int(data.processed.offsets[batch.user_index[row]]), stop)]
            own = [p for p in own if session_of(data, p) == session_of(data, stop - 1)]
            assert batch.item_ids[row, : batch.lengths[row]].tolist() == data.processed.item_ids[own[-3:]].tolist()
            got = batch.seen_ids[batch.seen_offsets[row] : batch.seen_offsets[row + 1]].tolist()
            assert set(got) == set(data.processed.item_ids[own].tolist())
    assert data.spec.training["window_within"] == sessions
    assert data.evaluation_settings()["exclude_seen_session"] == sessions


def test_whether_an_event_goes_on_with_its_session_is_a_field(shop: Path, tmp_path: Path) -> None:
    data = of(shop, sessions="session_id", fields=["worth", "same_session"])
    assert [f.name for f in data.spec.fields] == ["worth", "same_session"] and data.spec.training[
        "sessions"
    ] == "session_id"
    loader = data.train_dataloader()
    for windows in loader.sampler:
        batch = loader.dataset[windows]
        for row, window in enumerate(windows):
            for column in range(int(batch.lengths[row])):
                p = int(data.train_windows.start[window]) + column
                goes_on = p not in data.processed.offsets and session_of(data, p) == session_of(data, p - 1)
                assert int(batch.event["same_session"][row, column]) == (3 if goes_on else 2)
    quiet_trainer(tmp_path).fit(GRU4Rec(embedding_dim=8), data)
    with pytest.raises(RecsysLabError, match="unknown field 'same_session'"):
        assert of(shop, fields=["same_session"]).fitted_fields


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"window_within": "session"}, "--data.window_within session needs --data.sessions"),
        ({"exclude_seen": "session"}, "--data.exclude_seen session needs --data.sessions"),
        ({"sessions": "sesion"}, "--data.sessions: 'sesion' is no field of the data; name a categorical.*session_id"),
        ({"sessions": "worth"}, "'worth' is numeric, of the events.*--fields worth=categorical"),
        ({"sessions": "30"}, "'30' is no field of the data; name .* a pause such as 30m$"),
    ],
)
def test_sessions_that_can_not_be(settings: dict[str, Any], text: str, shop: Path) -> None:
    with pytest.raises(RecsysLabError, match=text):
        assert of(shop, **settings).rules


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=4), min_size=1, max_size=5), st.integers(1, 4), st.data()
)
def test_windows_in_sessions_count_what_windows_count(users: list[list[int]], length: int, draw: Any) -> None:
    """users: lengths of the sessions of each."""
    offsets = np.append(0, np.cumsum([sum(own) for own in users])).astype(np.int64)
    first = np.cumsum([0, *(n for own in users for n in own)])[:-1]
    starts = np.repeat(first, [n for own in users for n in own])
    stop = np.array([draw.draw(st.integers(a, b)) for a, b in zip(offsets[:-1], offsets[1:], strict=True)])
    stride = draw.draw(st.one_of(st.none(), st.integers(1, length)))
    if not (stop - offsets[:-1] > 1).any():
        return
    plain = training_windows(offsets[:-1], stop, length, stride)
    found = windows_in_sessions(offsets, stop, starts, length, stride, "all_positions", None)
    counted = [
        sorted(p for f, s in zip(w.first_target, w.stop, strict=True) for p in range(f, s + 1)) for w in (plain, found)
    ]
    assert counted[0] == counted[1]
    assert (starts[found.start] == starts[found.stop - 1]).all()
    user = np.searchsorted(offsets, found.start, side="right") - 1
    assert np.array_equal(user, found.user_index)


# -- metrics of each type ----------------------------------------------------------------------------------------------


def test_metrics_of_each_target_type(shop: Path, tmp_path: Path) -> None:
    data = of(shop, target_types=["buy", "view"], split=GlobalTemporal(0.6, 0.8, target="all"))
    evaluation = RankingEvaluation(cutoffs=[3])
    tested = quiet_trainer(tmp_path, callbacks=[evaluation]).test(GRU4Rec(embedding_dim=8), data, verbose=False)[0]
    ranks = evaluation.ranks_frame(data)
    assert set(ranks["event_type"]) == {"buy", "view"}
    shares = [tested[f"test/target_share_{name}"] for name in ("buy", "view")]
    assert sum(shares) == pytest.approx(1)
    parts = [tested[f"test/ndcg@3_{name}"] for name in ("buy", "view")]
    assert np.dot(shares, parts) == pytest.approx(tested["test/ndcg@3"], abs=1e-6)
    plain = of(shop)
    tested = quiet_trainer(tmp_path, callbacks=[RankingEvaluation()]).test(
        GRU4Rec(embedding_dim=8), plain, verbose=False
    )
    assert not [name for name in tested[0] if name.endswith(("_buy", "_view"))]


def test_the_type_of_the_target_as_a_condition(tmp_path: Path) -> None:
    """What will be bought next: the type is declared as known of the event to predict, and the model is told of it."""
    rng = np.random.default_rng(0)
    rows = []
    for user in range(50):
        for step in range(10):
            kind = ["view", "buy"][int(rng.integers(2))]
            rows.append((user, int(rng.integers(5)) + 10 * (kind == "buy"), 100 * step + user, kind))
    events = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp", "event_type"], orient="row")
    prepare = PrepareSettings(fields=("event_type=event.categorical@query",))
    data = SequenceDataModule.from_frames(events, data_dir=tmp_path, prepare=prepare, max_length=5, exclude_seen="none")
    data.batch_size, hits = 8, []
    for fields in ((), ("event_type",)):
        model = GRU4Rec(embedding_dim=16, target_fields=fields, optimization=Optimization(lr=1e-2))
        trainer = quiet_trainer(
            tmp_path, max_epochs=15, limit_val_batches=0, callbacks=[RankingEvaluation(cutoffs=[5])]
        )
        trainer.fit(model, data)
        hits.append(trainer.test(model, data, verbose=False)[0]["test/hit_rate@5"])
    asked = SequenceDataModule(
        data.dataset, str(data.data_dir), max_length=5, target_types=["buy"], exclude_seen="none"
    )
    lists, model.allow_other_training = Recommendations(tmp_path / "lists.parquet", top_k=5), True
    quiet_trainer(tmp_path, callbacks=[lists]).predict(model, asked)
    assert (pl.read_parquet(tmp_path / "lists.parquet")["item_id"] >= 10).all(), "asked for what is bought next"
    with pytest.raises(RecsysLabError, match="the field 'event_type' of the event to.*--data.target_types"):
        quiet_trainer(tmp_path).predict(model, data)
    assert hits[1] == 1.0 and hits[0] < 0.9, "told the type, five of the ten items are left"
