"""What a Predictor takes and gives: histories in every form, choices of items, unknown ids, empty histories, short
lists, titles; and what it refuses, in words."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal
from small_data import made_events, prepared
from trained import checkpoint_of, data_of, events_of, lists_of

from recsys_lab.models import GRU4Rec, LSTMAttention, Popularity, SASRec
from recsys_lab.models.baselines.markov import Markov
from recsys_lab.serve import Predictor, predictor
from recsys_lab.words import RecsysLabError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared(tmp_path_factory.mktemp("serve") / "plain", made_events(event_types=1)).path


@pytest.fixture(scope="module")
def path(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint_of(SASRec(embedding_dim=8), data_of(folder), tmp_path_factory.mktemp("sasrec"), steps=20)


@pytest.fixture
def sasrec(path: Path) -> Predictor:
    return Predictor.load(path)


def ids(frame: pl.DataFrame, user: Any = 0) -> list[Any]:
    return frame.filter(pl.col("user") == user)["item_id"].to_list()


def trained_ids(one: Predictor) -> list[int]:
    return one.item_ids.at(one.is_trained.nonzero()[:, 0].numpy()).to_list()


def test_lists_a_dict_and_frames_are_the_same_histories(sasrec: Predictor, folder: Path) -> None:
    events = events_of(data_of(folder))
    histories, times = lists_of(events)
    by_user = sasrec.recommend(histories, 4, times=times)
    assert by_user.columns == ["user", "rank", "item_id", "score", "source", "note"]
    for frame in (events, events.lazy(), pd.DataFrame(events.to_dict(as_series=False))):
        assert_frame_equal(sasrec.recommend(frame, 4), by_user)
    as_lists = sasrec.recommend(list(histories.values()), 4, times=list(times.values()))
    assert_frame_equal(as_lists.drop("user"), by_user.drop("user"))
    assert as_lists["user"].unique().sort().to_list() == list(range(len(histories)))
    as_dates = [[datetime.fromtimestamp(t, UTC) for t in own] for own in times.values()]
    assert_frame_equal(sasrec.recommend(list(histories.values()), 4, times=as_dates), as_lists)
    texts = [[str(item) for item in own] for own in histories.values()]
    assert_frame_equal(sasrec.recommend(texts, 4, times=list(times.values())), as_lists)


def test_parts_of_many_users_are_the_whole(sasrec: Predictor, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    histories, _ = lists_of(events_of(data_of(folder)))
    histories["nobody"] = []
    whole = sasrec.recommend(histories, 4)
    monkeypatch.setattr(predictor, "PLACES_AT_ONCE", 20)
    parts = list(sasrec.recommend_in_parts(histories, 4))
    assert len(parts) == 3
    assert_frame_equal(pl.concat(parts), whole)


def test_unknown_items_are_counted_told_once_and_skipped(
    sasrec: Predictor, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    known = trained_ids(sasrec)[:3]
    with caplog.at_level(logging.WARNING, logger="recsys_lab"):
        found = sasrec.recommend([[known[0], "never seen", known[1], 7.5, None, known[2]]], 5)
        assert_frame_equal(found, sasrec.recommend([known], 5))
        sasrec.recommend([[*known, -1]])
    assert sasrec.item_ids.skipped == 4
    assert [r.getMessage() for r in caplog.records] == [
        "3 of 6 items in the histories are unknown to the model, the first 'never seen': skipped, and from now on only "
        "counted"
    ]
    strict = Predictor.load(path, unknown="error")
    with pytest.raises(RecsysLabError, match="1 of 2 items in the histories are unknown .* 'x'.*--unknown skip"):
        strict.recommend([[known[0], "x"]])
    frame = pl.DataFrame({"user_id": ["a", "a", "a"], "item_id": [known[0], 10**9, known[1]]})
    assert ids(sasrec.recommend(frame, 5), "a") == ids(sasrec.recommend([known[:2]], 5))
    with pytest.raises(RecsysLabError, match="unknown='maybe'; known: skip, error"):
        Predictor.load(path, unknown="maybe")  # type: ignore[arg-type]


def test_without_a_known_event_the_popular_items_come_and_the_frame_says_so(sasrec: Predictor, folder: Path) -> None:
    data = data_of(folder)
    popular = Predictor.load(checkpoint_of(Popularity(), data, folder.parent))
    some = trained_ids(sasrec)[:1]
    found = sasrec.recommend([[], some, ["?", "!"]], 3)
    assert found["source"].to_list() == ["popularity"] * 3 + ["model"] * 3 + ["popularity"] * 3
    assert found["note"].to_list() == (
        ["the history is empty"] * 3 + [None] * 3 + ["none of its 2 events is of a known item"] * 3
    )
    expected = popular.recommend([some], 3, exclude=None)
    for user in (0, 2):
        assert ids(found, user) == expected["item_id"].to_list()
        assert found.filter(pl.col("user") == user)["score"].to_list() == expected["score"].to_list()
    by_hand = data.item_counts.sort(descending=True).values[:3]
    assert found["score"][:3].to_list() == by_hand.tolist()
    assert not sasrec.recommend([], 3).height and sasrec.recommend({}, 3).columns == found.columns


def test_what_lists_leave_out(sasrec: Predictor) -> None:
    every = trained_ids(sasrec)
    history = every[:3]
    whole = ids(sasrec.recommend([history], 100, exclude=None))
    assert sorted(whole) == sorted(every), "all candidates, and no item that was never trained"
    assert len(every) < len(sasrec.item_ids)
    for chosen, left_out in (
        ({}, history),
        ({"exclude": every[5:8]}, every[5:8]),
        ({"blocked": every[5:8]}, [*history, *every[5:8]]),
        ({"exclude": None, "blocked": every[7:8]}, every[7:8]),
        ({"exclude": pl.Series(every[5:8])}, every[5:8]),
    ):
        found = ids(sasrec.recommend([history], 100, **chosen))
        assert found == [item for item in whole if item not in left_out], chosen


def test_candidates_of_all_and_of_each_user(sasrec: Predictor) -> None:
    every = trained_ids(sasrec)
    histories = [every[:3], [], every[4:6], every[:1]]
    whole = [ids(sasrec.recommend(histories, 100, exclude=None), user) for user in range(4)]
    shared = sasrec.recommend(histories, 100, exclude=None, candidates=every[2:9])
    own_lists = [every[2:9], [*every[8:10], *every[8:10]], [], every]
    own = sasrec.recommend(histories, 100, exclude=None, candidates=own_lists)
    for user in range(4):
        assert ids(shared, user) == [item for item in whole[user] if item in every[2:9]]
        assert ids(own, user) == ([item for item in whole[user] if item in own_lists[user]] or [None])
    by_user = dict(zip("abcd", histories, strict=True))
    as_dict = sasrec.recommend(by_user, 100, exclude=None, candidates=dict(zip("abcd", own_lists, strict=True)))
    assert_frame_equal(as_dict.drop("user"), own.drop("user"))
    never = next(raw for raw in sasrec.item_ids.raw.to_list() if raw not in every)
    assert ids(sasrec.recommend(histories[:1], 3, candidates=[never, every[9]])) == [every[9]]
    assert ids(sasrec.recommend(histories[:1], 3, candidates=[])) == [None]


def test_short_lists_say_why(sasrec: Predictor) -> None:
    every = trained_ids(sasrec)
    found = sasrec.recommend([every[:3], every[:2]], 4, candidates=every[1:5])
    assert found.group_by("user", maintain_order=True).len()["len"].to_list() == [2, 3]
    assert found["note"].unique(maintain_order=True).to_list() == [
        "2 of 4: there are 4 candidates, 2 of them in the history",
        "3 of 4: there are 4 candidates, 1 of them in the history",
    ]
    nothing = sasrec.recommend([every[:2], []], 4, candidates=every[:2])
    assert nothing.rows()[0] == (
        0,
        None,
        None,
        None,
        "model",
        "0 of 4: there are 2 candidates, 2 of them in the history",
    )
    assert nothing["note"][1] == "the history is empty; 2 of 4: there are 2 candidates"
    many = sasrec.recommend([every[:1]], 1000)
    assert len(many) == len(every) - 1 and many["note"][0].startswith(f"{len(many)} of 1000: ")


def test_a_model_that_reads_times_says_what_it_takes_for_them(
    folder: Path, tmp_path: Path, sasrec: Predictor, caplog: pytest.LogCaptureFixture
) -> None:
    data = data_of(folder, training_mode="last_position")
    reading = Predictor.load(checkpoint_of(LSTMAttention(time="relative", reference="query"), data, tmp_path))
    items = trained_ids(sasrec)[:3]
    with caplog.at_level(logging.WARNING, logger="recsys_lab"):
        assumed = reading.recommend([items])
        reading.recommend([items])
        sasrec.recommend([items])
    gap = max(1, round(data.spec.mean_gap_seconds))
    said = [r.getMessage() for r in caplog.records if "apart" in r.getMessage()]
    assert len(said) == 1 and f"lie {gap:.0f} s apart" in said[0], "once, and not of SASRec"
    assert reading.reads_times and not sasrec.reads_times
    assert_frame_equal(assumed, reading.recommend([items], times=[[0, gap, 2 * gap]]))
    times = [[1_000_000, 1_000_100, 1_000_300]]
    at_last, later = (reading.recommend([items], times=times, query_time=t) for t in (None, 1_900_000))
    assert_frame_equal(at_last, reading.recommend([items], times=times, query_time=[1_000_300]))
    assert at_last["score"].to_list() != later["score"].to_list()
    with pytest.raises(RecsysLabError, match="query_time needs the times of the events"):
        reading.recommend([items], query_time=1_900_000)
    with pytest.raises(RecsysLabError, match="query_time has 2 values, and there are 1 users"):
        reading.recommend([items], times=times, query_time=[1, 2])


def test_fields_of_events_users_and_the_event_to_predict(folder: Path, tmp_path: Path) -> None:
    data = data_of(folder, with_fields=True)
    one = Predictor.load(checkpoint_of(GRU4Rec(embedding_dim=8, target_fields=["price"]), data, tmp_path))
    items = trained_ids(one)[:2]
    given: dict[str, Any] = {"colour": [["red", None]], "price": [[40.0, 60.0]], "user.age": [30]}
    asked: dict[str, Any] = {"target_fields": {"price": [55.0]}}
    found = one.recommend([items], fields=given, **asked)
    frame = pl.DataFrame({"user_id": ["a", "a"], "item_id": items, "colour": ["red", None], "price": [40.0, 60.0]})
    as_frame = one.recommend(frame.with_columns(pl.lit(30).alias("user.age")), **asked)
    assert_frame_equal(as_frame.drop("user"), found.drop("user"))
    for name, values in (("colour", [["blue", None]]), ("price", [[1.0, 2.0]]), ("user.age", [50])):
        other = one.recommend([items], fields=given | {name: values}, **asked)
        assert other["score"].to_list() != found["score"].to_list(), name
    without = one.recommend([items], fields={k: v for k, v in given.items() if k != "user.age"}, **asked)
    assert_frame_equal(without, one.recommend([items], fields=given | {"user.age": [None]}, **asked))
    among = given | {"colour": [["red", "green", None]], "price": [[40.0, 9.0, 60.0]]}
    assert_frame_equal(one.recommend([[items[0], "?", items[1]]], fields=among, **asked), found)
    for wrong, says in (
        ({"size": [[1, 2]]}, "the model is fed no field 'size'; known: price, colour, user.age"),
        ({"colour": [["red"]]}, r"fields\['colour'\] of user 0 has 1 values, its history 2 events"),
        ({"user.age": [1, 2]}, r"fields\['user.age'\] has 2 values, and there are 1 users"),
        ({"price": [["cheap", "dear"]]}, "can't be values of the numeric field 'price'"),
    ):
        with pytest.raises(RecsysLabError, match=says):
            one.recommend([items], fields=wrong, **asked)
    with pytest.raises(RecsysLabError, match="reads the field 'price' of the event to predict.*target_fields="):
        one.recommend([items], fields=given)
    with pytest.raises(RecsysLabError, match="'colour' is not known of the event to predict; known: price"):
        one.recommend([items], fields=given, target_fields={"colour": ["red"]})


@pytest.mark.parametrize(
    ("histories", "asked", "says"),
    [
        (["a", "b"], {}, "the history of user 0 must be a list, not 'a'"),
        ("a,b", {}, "histories must be a list"),
        (7, {}, "histories must be a list, not 7"),
        ([[101], 5], {}, "the history of user 1 must be a list, not 5"),
        ([[101, 102]], {"times": [[1]]}, "times of user 0 has 1 values, its history 2 events"),
        ([[101, 102]], {"times": [[2, 1]]}, "times of user 0 go back"),
        ({"b": [101], "a": [101, 102]}, {"times": [[1], [2, 1]]}, "times of user 'a' go back"),
        ([[101]], {"times": [[float("nan")]]}, "seconds since 1970 .* not nan"),
        ([[101]], {"times": [["noon"]]}, "times must be seconds since 1970 or datetimes, and the first is 'noon'"),
        ([[101]], {"times": [[1_700_000_000_000]]}, "up to the year 5138"),
        ([[101]], {"times": [[1], [2]]}, "times has 2 lists, and there are 1 histories"),
        ([[101]], {"k": 0}, "k must be a whole number from 1 on, not 0"),
        ([[101]], {"k": 2.5}, "k must be a whole number"),
        ([[101]], {"exclude": "seen"}, "exclude='seen'; it is 'run', 'history', None, or a list"),
        ([[101]], {"candidates": [[101], [102]]}, "candidates has 2 lists, and there are 1 users"),
        ([[101]], {"blocked": 7}, "blocked items must be a list of item ids, not 7"),
        (pl.DataFrame({"user_id": [1], "item": [101]}), {}, "the histories has no column 'item_id'.*'item'"),
        (pl.DataFrame({"user_id": [1], "item_id": [101]}), {"times": [[1]]}, "a frame has them in its column"),
    ],
)
def test_what_can_not_be_meant_is_refused(sasrec: Predictor, histories: Any, asked: Any, says: str) -> None:
    with pytest.raises(RecsysLabError, match=says):
        sasrec.recommend(histories, **asked)


def test_scores_of_chosen_items(sasrec: Predictor, folder: Path, tmp_path: Path) -> None:
    every = trained_ids(sasrec)
    never = next(raw for raw in sasrec.item_ids.raw.to_list() if raw not in every)
    markov = Predictor.load(checkpoint_of(Markov(), data_of(folder), tmp_path))
    counted = markov.score([every[:3]], [never])["score"].to_list()
    assert counted == [0.0], "what was counted of it"
    for one in (sasrec, markov):
        second = never if one is sasrec else every[7]
        found = one.score([every[:3], []], [every[5], second, every[0]])
        assert found["user"].to_list() == [0, 0, 0, 1, 1, 1]
        assert found["item_id"].to_list() == [every[5], second, every[0]] * 2
        assert found["source"].to_list() == ["model"] * 3 + ["popularity"] * 3
        assert found["score"].is_null().to_list() == [False, one is sasrec, False] * 2
        lists = one.recommend([every[:3], []], 100, exclude=None)
        for user, item, score in found.filter(pl.col("score").is_not_null()).select("user", "item_id", "score").rows():
            listed = lists.filter((pl.col("user") == user) & (pl.col("item_id") == item))["score"][0]
            assert score == pytest.approx(listed, rel=1e-5)
    with pytest.raises(RecsysLabError, match="does not know the item 'x': its ids are like 100"):
        sasrec.score([[every[0]]], ["x"])


def test_similar_items(sasrec: Predictor, folder: Path, tmp_path: Path) -> None:
    item = trained_ids(sasrec)[3]
    found = sasrec.similar(item, 4)
    assert found["rank"].to_list() == [1, 2, 3, 4] and item not in found["item_id"] and set(found["by"]) == {"cosine"}
    table = sasrec.model.embedding.items.weight.detach()
    row = sasrec.item_ids.row(item)
    cosine = torch.nn.functional.cosine_similarity(table, table[row][None]).masked_fill(~sasrec.is_trained, -9)
    cosine[row] = -9
    best = cosine.topk(4)
    assert found["item_id"].to_list() == sasrec.item_ids.at(best.indices.numpy()).to_list()
    np.testing.assert_allclose(found["score"], best.values.numpy(), rtol=1e-5)
    markov = Predictor.load(checkpoint_of(Markov(), data_of(folder), tmp_path))
    counted = markov.similar(item, 4)
    assert set(counted["by"]) == {"history"} and ids(markov.recommend([[item]], 4)) == counted["item_id"].to_list()
    with pytest.raises(RecsysLabError, match="does not know the item"):
        sasrec.similar("x")
