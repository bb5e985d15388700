"""Lists in practice: MMR against its definition, quotas and the popularity cap that are kept, and notes that say why a
list is short."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from small_data import made_events, prepared
from trained import checkpoint_of, data_of

from recsys_lab.models import Markov, SASRec
from recsys_lab.serve import Predictor, item_frame, mmr, popularity_cap, quota
from recsys_lab.words import RecsysLabError


def lists_of(scores: list[list[float]]) -> pl.DataFrame:
    """Items 0, 1, .. of each user, best first."""
    rows = []
    for user, own in enumerate(scores):
        order = np.argsort(-np.array(own), kind="stable")
        rows += [(f"u{user}", rank, int(item), own[item], "model", None) for rank, item in enumerate(order, start=1)]
    schema = {"user": pl.String, "rank": pl.Int32, "item_id": pl.Int64, "score": pl.Float32}
    return pl.DataFrame(rows, schema={**schema, "source": pl.String, "note": pl.String}, orient="row")


def by_definition(scores: np.ndarray, similar: np.ndarray, weight: float, k: int) -> list[int]:
    """Carbonell & Goldstein 1998, written out."""
    relevance = (scores - scores.min()) / (scores.max() - scores.min())
    chosen: list[int] = []
    while len(chosen) < min(k, len(scores)):
        left = [i for i in range(len(scores)) if i not in chosen]
        value = [(1 - weight) * relevance[i] - weight * max([similar[i, j] for j in chosen], default=0.0) for i in left]
        chosen.append(left[int(np.argmax(value))])
    return chosen


def jaccard(one: set[str], other: set[str]) -> float:
    return len(one & other) / max(1, len(one | other))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 1), st.integers(1, 9), st.sampled_from(["vector", "names", "name"]))
def test_mmr_is_its_definition(seed: int, weight: float, k: int, kind: str) -> None:
    rng, n = np.random.default_rng(seed), 8
    scores = np.sort(rng.normal(size=(2, n)).astype(np.float32), axis=1)[:, ::-1]
    vectors = rng.normal(size=(n, 3))
    names = [set(rng.choice(list("abcd"), rng.integers(1, 4), replace=False).tolist()) for _ in range(n)]
    if kind == "vector":
        items = pl.DataFrame({"item_id": range(n), "v": vectors.tolist()})
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        similar = unit @ unit.T
    else:
        own = names if kind == "names" else [{sorted(one)[0]} for one in names]
        values: list[Any] = [sorted(one) if kind == "names" else sorted(one)[0] for one in own]
        items = pl.DataFrame({"item_id": range(n), "v": values})
        similar = np.array([[jaccard(a, b) for b in own] for a in own])
    found = mmr(lists_of(scores.tolist()), k, items, weight=weight)
    for user in range(2):
        expected = by_definition(scores[user].astype(np.float64), similar, weight, k)
        mine = found.filter(pl.col("user") == f"u{user}")
        assert mine["item_id"].to_list() == expected and mine["rank"].to_list() == list(range(1, len(expected) + 1))
        assert mine["score"].to_list() == [scores[user, item] for item in expected], "the model's own"


def test_a_weight_of_zero_and_items_of_which_nothing_is_known_change_nothing() -> None:
    lists = lists_of([[0.5, 0.9, 0.1, 0.7], [2.0, 2.0, 2.0, 1.0]])
    items = pl.DataFrame({"item_id": [0, 1, 2, 3], "genre": ["a", "a", "a", "a"]})
    assert_frame_equal(mmr(lists, 3, items, weight=0.0), lists.filter(pl.col("rank") <= 3))
    nothing = pl.DataFrame({"item_id": [9], "genre": ["a"]})
    assert_frame_equal(mmr(lists, 3, nothing, weight=0.8), lists.filter(pl.col("rank") <= 3))
    assert mmr(lists, 9, items, weight=1.0)["item_id"].len() == 8, "all are taken where k is larger"
    texts = pl.DataFrame({"item_id": ["1", "3"], "genre": ["a", "a"]})  # ids as texts are the same ids
    assert mmr(lists[:4], 2, texts, weight=0.9)["item_id"].to_list() == [1, 0]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 4), st.integers(1, 12))
def test_no_category_is_over_its_quota_and_the_best_are_kept(seed: int, at_most: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    own = [rng.choice(list("abc"), rng.integers(0, 3), replace=False).tolist() for _ in range(12)]
    lists = lists_of(rng.normal(size=(3, 12)).tolist())
    found = (
        quota(
            lists,
            k,
            pl.DataFrame({"item_id": range(12), "tags": own}, schema_overrides={"tags": pl.List(pl.String)}),
            at_most,
        )
        if any(own)
        else lists
    )
    for (user,), mine in found.group_by("user"):
        room, expected = dict.fromkeys("abc", at_most), []
        for item in lists.filter(pl.col("user") == user)["item_id"]:
            if len(expected) < k and all(room[name] for name in own[item]):
                expected.append(item)
                room.update({name: room[name] - 1 for name in own[item]})
        assert mine["item_id"].to_list() == expected
        is_short = len(expected) < k
        assert mine["note"].null_count() == (0 if is_short else len(expected))
        if is_short:
            assert mine["note"][0] == f"{len(expected)} of {k}: the others are over the quota, in 12 ranked items"


def test_quotas_of_some_categories(capsys: Any) -> None:
    lists = lists_of([[9.0, 8.0, 7.0, 6.0, 5.0]])
    items = pl.DataFrame({"item_id": range(5), "genre": ["a", "a", "a", "b", None]})
    assert quota(lists, 4, items, {"a": 1})["item_id"].to_list() == [0, 3, 4]
    assert quota(lists, 4, pd.DataFrame(items.to_dict(as_series=False)), {"a": 2, "b": 0})["item_id"].to_list() == [
        0,
        1,
        4,
    ]


def test_the_popularity_cap() -> None:
    lists = lists_of([[9.0, 8.0, 7.0, 6.0, 5.0, 4.0]])
    items = pl.DataFrame({"item_id": range(6), "count": [50, 30, 10, 5, 5, 0]})
    for head, cap, expected in (
        (0.5, 0, [1, 2, 3, 4]),
        (0.51, 0, [2, 3, 4, 5]),  # the second item reaches it
        (0.8, 1, [0, 2, 3, 4]),
        (0.0, 0, [0, 1, 2, 3]),
        (1.0, 2, [0, 1, 5]),
    ):
        assert popularity_cap(lists, 4, items, cap, head)["item_id"].to_list() == expected, head


def test_lists_of_a_model_with_its_own_vectors(tmp_path: Any) -> None:
    data = data_of(prepared(tmp_path / "plain", made_events(event_types=1)).path)
    one = Predictor.load(checkpoint_of(SASRec(embedding_dim=8), data, tmp_path))
    items = item_frame(one)
    assert items.columns == ["item_id", "count", "vector"] and items["vector"].dtype == pl.Array(pl.Float32, 8)
    assert items["item_id"].to_list() == one.item_ids.raw.to_list()
    assert items["count"].to_list() == data.item_counts[1:].tolist()
    table = one.model.embedding.items.weight.detach()[1:].numpy()
    np.testing.assert_array_equal(items["vector"].to_numpy(), table)
    known = one.item_ids.at(one.is_trained.nonzero()[:, 0].numpy()).to_list()
    lists = one.recommend(
        {"a": known[:2], "b": [], "c": known[3:5], "d": known[:1]}, 12, candidates=[known, [], known, known]
    )
    found = mmr(lists, 5, items, by="vector", weight=0.9)
    assert found["user"].unique(maintain_order=True).to_list() == ["a", "b", "c", "d"], "b, who has none, keeps its row"
    assert found.filter(pl.col("user") == "b")["note"][0].startswith("the history is empty; 0 of 12")
    assert found.group_by("user", maintain_order=True).len()["len"].to_list() == [5, 1, 5, 5]
    unit = table / np.linalg.norm(table, axis=1, keepdims=True)

    def closeness(frame: pl.DataFrame) -> float:
        rows = one.item_ids.rows(frame.filter(pl.col("user") == "a")["item_id"], "test") - 1
        return float((unit[rows] @ unit[rows].T).sum() - len(rows))

    assert closeness(found) < closeness(lists.filter(pl.col("rank") <= 5))
    capped = popularity_cap(lists, 5, items, 1, head=0.3)
    assert capped["rank"].max() == 5
    counted = Predictor.load(checkpoint_of(Markov(), data, tmp_path))
    assert item_frame(counted).columns == ["item_id", "count"]


LISTS = lists_of([[2.0, 1.0]])
ITEMS = pl.DataFrame({"item_id": [0, 1], "genre": ["a", "b"], "v": [[1.0], [2.0]], "price": [1.5, 2.5]})


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: mmr(ITEMS, 3, ITEMS), "lists must be a frame of Predictor.recommend"),
        (lambda: mmr(LISTS, 0, ITEMS, "genre"), "k must be a whole number from 1 on, not 0"),
        (lambda: mmr(LISTS, 3, ITEMS), "by: name one of the columns of items: genre, v, price"),
        (lambda: mmr(LISTS, 3, ITEMS, "gnre"), "by='gnre': items has genre, v, price. Did you mean 'genre'"),
        (lambda: mmr(LISTS, 3, ITEMS, "genre", weight=1.5), "weight must be from 0 to 1, not 1.5"),
        (lambda: mmr(LISTS, 3, ITEMS, "price"), "by='price' holds decimals"),
        (lambda: mmr(LISTS, 3, ITEMS.rename({"item_id": "id"}), "v"), "items has no column 'item_id'"),
        (lambda: quota(LISTS, 3, ITEMS, 1, "v"), "a quota is of categories, and this column holds vectors"),
        (lambda: quota(LISTS, 3, ITEMS, -1, "genre"), "at_most must be a whole number from 0 on, not -1"),
        (lambda: quota(LISTS, 3, ITEMS, {"a": 1.5}, "genre"), "at_most must be a whole number from 0 on, not 1.5 (a)"),
        (lambda: quota(LISTS, 3, ITEMS, {"c": 1}, "genre"), "at_most: no item has the category 'c'"),
        (lambda: popularity_cap(LISTS, 3, ITEMS, 1), "items has no column 'count', which item_frame(predictor) has"),
        (lambda: popularity_cap(LISTS, 3, ITEMS, 1, head=2), "head must be from 0 to 1, not 2"),
    ],
)
def test_what_can_not_be_meant(call: Any, says: str) -> None:
    with pytest.raises(RecsysLabError, match=re.escape(says)):
        call()
