from __future__ import annotations

import datetime as dt
import logging
import tempfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_source import MadeSource

from recsys_lab.data.prepare.pipeline import PrepareSettings, prepare
from recsys_lab.data.prepare.processed import ForeignFolderError, ProcessedDataset
from recsys_lab.data.reading.download import ChecksumError, DownloadError
from recsys_lab.data.reading.spelling import command_line
from recsys_lab.words import RecsysLabError

EVENTS = {
    "user_id": ["b", "a", "b", "a", "b", "c"],
    "item_id": [30, 10, 10, 20, 10, 9],
    "timestamp": [5, 7, 5, 3, 9, 1],
    "rating": [5.0, 1.0, 4.0, None, float("nan"), 5.0],
    "event_type": ["view", "buy", "view", "view", "buy", "view"],
}


def make(folder: Path, interactions=EVENTS, items=None, users=None, **chosen) -> ProcessedDataset:
    return prepare(MadeSource(interactions, items, users), PrepareSettings(**chosen), folder / "made", folder / "raw")


def histories(data: ProcessedDataset) -> dict:
    """Raw user id -> list of raw item ids."""
    raw = data.item_ids_raw.to_list()
    items = [raw[i - 1] for i in data.item_ids]
    return {u: items[data.offsets[n] : data.offsets[n + 1]] for n, u in enumerate(data.user_ids.to_list())}


def test_defaults_keep_every_event_sorted_by_user_time_and_file(tmp_path):
    data = make(tmp_path)
    assert histories(data) == {"a": [20, 10], "b": [30, 10, 10], "c": [9]}
    assert data.item_ids_raw.to_list() == [9, 10, 20, 30]  # numerically, not as text
    assert data.item_ids.tolist() == [3, 2, 4, 2, 2, 1]
    assert data.timestamps.tolist() == [3, 7, 5, 5, 9, 1]
    assert data.event_type_names == ["buy", "view"]
    assert data.event_types.tolist() == [2, 1, 2, 2, 1, 2]
    assert (data.num_users, data.num_items, data.num_events, data.num_event_types) == (3, 4, 6, 2)
    assert data.manifest["tie_share"] == pytest.approx(2 / 6)
    assert data.manifest["steps"] == [{"name": "read", "events": 6, "users": 3, "items": 4}]
    assert data.has_timestamps and data.name == "made"


def test_without_time_the_order_column_is_the_order_and_positions_stand_in(tmp_path):
    data = make(tmp_path, {"user_id": [2, 2, 1, 2], "item_id": ["x", "y", "x", "z"], "order": [3, 1, 0, 2]})
    assert histories(data) == {1: ["x"], 2: ["y", "z", "x"]}
    assert data.timestamps.tolist() == [0, 0, 1, 2]
    assert not data.has_timestamps and data.event_types is None and data.num_event_types == 0
    assert data.manifest["tie_share"] is None


def test_a_single_user_is_prepared(tmp_path):
    assert make(tmp_path, {"user_id": [1, 1], "item_id": [1, 2], "timestamp": [1, 2]}).num_users == 1


@pytest.mark.parametrize(
    ("times", "seconds"),
    [
        ([1.75, 1.25], [1, 1]),
        ([dt.datetime(1970, 1, 2, 0, 0, 0, 500_000), dt.datetime(1970, 1, 2)], [86_400, 86_400]),
        ([dt.date(1970, 1, 3), dt.date(1970, 1, 2)], [86_400, 172_800]),
    ],
)
def test_fractions_of_a_second_order_events_and_are_stored_rounded_down(tmp_path, times, seconds):
    data = make(tmp_path, {"user_id": [1, 1], "item_id": ["late", "early"], "timestamp": times})
    assert histories(data) == {1: ["early", "late"]}
    assert data.timestamps.tolist() == seconds
    assert data.manifest["tie_share"] == 0.0


def test_whole_floats_and_categories_are_ids(tmp_path):
    events = pl.DataFrame({"user_id": [10.0, 9.0], "item_id": pl.Series(["b", "a"], dtype=pl.Categorical)})
    data = make(tmp_path, events)
    assert data.user_ids.to_list() == [9, 10]
    assert data.item_ids_raw.to_list() == ["a", "b"]


# -- filters -----------------------------------------------------------------------------------------------------------


def test_rating_filter_drops_missing_ratings_too(tmp_path):
    data = make(tmp_path, min_rating=4)
    assert histories(data) == {"b": [30, 10], "c": [9]}
    assert data.manifest["steps"][1] == {"name": "min_rating=4", "events": 3, "users": 2, "items": 3}


def test_event_type_filter(tmp_path):
    data = make(tmp_path, event_types=["buy"])
    assert histories(data) == {"a": [10], "b": [10]}
    assert data.event_type_names == ["buy"] and data.event_types.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ({}, [1, 2, 1, 1, 2, 2, 1]),
        ({"duplicates": "drop"}, [1, 2, 1, 2, 2, 1]),
        ({"duplicates": "first"}, [1, 2]),
        ({"duplicates": "last"}, [2, 1]),
        ({"consecutive_repeats": "drop"}, [1, 2, 1, 2, 1]),
    ],
)
def test_duplicates_and_repeats(tmp_path, chosen, expected):
    events = {"user_id": [7] * 7, "item_id": [1, 2, 1, 1, 2, 2, 1], "timestamp": [1, 1, 3, 3, 3, 4, 5]}
    assert histories(make(tmp_path, events, **chosen)) == {7: expected}


def test_the_same_moment_with_another_event_type_is_no_duplicate(tmp_path):
    events = {"user_id": [1, 1, 1], "item_id": [1, 1, 1], "timestamp": [1, 1, 1], "event_type": ["a", "b", "a"]}
    assert make(tmp_path, events, duplicates="drop").num_events == 2


def test_dropping_an_item_joins_repeats_and_both_rules_hold_at_the_end(tmp_path):
    events = {"user_id": [1, 1, 1, 2, 2], "item_id": ["a", "rare", "a", "a", "b"], "timestamp": [1, 2, 3, 1, 2]}
    data = make(tmp_path, events, consecutive_repeats="drop", min_item_events=2)
    assert histories(data) == {1: ["a"], 2: ["a"]}


def test_min_length_comes_last_and_is_counted(tmp_path):
    data = make(tmp_path, min_length=3)
    assert histories(data) == {"b": [30, 10, 10]}
    assert data.manifest["steps"][-1] == {"name": "min_length=3", "events": 3, "users": 1, "items": 2}


@pytest.mark.parametrize(
    ("chosen", "named"),
    [
        ({"min_rating": 6.0}, "min_rating=6"),
        ({"min_item_events": 4}, "min_item_events=4"),
        ({"min_user_events": 4}, "min_user_events=4"),
        ({"min_length": 9}, "min_length=9"),
    ],
)
def test_a_filter_that_drops_all_is_named(tmp_path, chosen, named):
    with pytest.raises(RecsysLabError, match=f"no event is left: .*{named}.* dropped all"):
        make(tmp_path, **chosen)
    assert not (tmp_path / "made").exists()
    ((name, value),) = chosen.items()
    with command_line(), pytest.raises(RecsysLabError, match=f"no event is left: .*--{name} {value:g}.* dropped all"):
        make(tmp_path, **chosen)


# -- order -------------------------------------------------------------------------------------------------------------

FRAMES = st.lists(
    st.tuples(st.integers(1, 4), st.integers(1, 6), st.integers(0, 5)), min_size=1, max_size=40
)  # user, item, timestamp


@settings(max_examples=40, deadline=None)
@given(FRAMES, st.booleans(), st.sampled_from(["file", "item_id", "hash", "random"]))
def test_csr_equals_a_plain_stable_sort(rows, as_text, tie_order):
    """Whatever the tie order: the same events, in time order; 'file' and 'item_id' exactly as sorted() does."""
    user, item, time = (list(column) for column in zip(*rows, strict=True))
    names = [f"i{i}" for i in item] if as_text else item
    with tempfile.TemporaryDirectory() as folder:
        data = make(Path(folder), {"user_id": user, "item_id": names, "timestamp": time}, tie_order=tie_order, seed=1)
        found = [
            (u, data.item_ids_raw[int(i) - 1], int(t))
            for n, u in enumerate(data.user_ids)
            for i, t in zip(
                *(a[data.offsets[n] : data.offsets[n + 1]] for a in (data.item_ids, data.timestamps)), strict=True
            )
        ]
    events = list(zip(user, names, time, strict=True))
    assert sorted(found) == sorted(events)
    assert [(u, t) for u, _, t in found] == sorted((u, t) for u, _, t in events)
    if tie_order == "file":
        assert found == sorted(events, key=lambda e: (e[0], e[2]))
    if tie_order == "item_id":
        assert found == sorted(events, key=lambda e: (e[0], e[2], e[1]))


def tied(order) -> dict:
    return {"user_id": [1] * 50, "item_id": list(order), "timestamp": [0] * 50}


@pytest.mark.parametrize("text", [False, True])
def test_hash_order_depends_on_seed_but_not_on_the_file(tmp_path, text):
    items = [f"item {i}" if text else i for i in range(50)]
    shuffled = [items[i] for i in np.random.default_rng(0).permutation(50)]
    one, other = (
        histories(make(tmp_path / str(n), tied(order), tie_order="hash", seed=3))
        for n, order in enumerate([items, shuffled])
    )
    assert one == other
    assert one[1] != sorted(one[1], key=items.index) and one[1] != items[::-1]
    assert histories(make(tmp_path / "seed", tied(items), tie_order="hash", seed=4)) != one


def test_hash_order_is_the_same_in_every_version(tmp_path):
    """Fixed numbers: a prepared set must be the same one day with another polars or numpy."""
    data = make(
        tmp_path, {"user_id": [1] * 6, "item_id": list(range(6)), "timestamp": [0] * 6}, tie_order="hash", seed=0
    )
    assert data.item_ids.tolist() == [4, 1, 2, 6, 3, 5]


def test_random_order_is_drawn_by_seed(tmp_path):
    one, same, other = (
        histories(make(tmp_path / str(n), tied(range(50)), tie_order="random", seed=seed))[1]
        for n, seed in enumerate([1, 1, 2])
    )
    assert one == same != other
    assert sorted(one) == list(range(50)) != one


def test_item_id_order_warns(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "recsys_lab"):
        make(tmp_path, tie_order="item_id")
    assert "inflates every metric" in caplog.text


# -- features ----------------------------------------------------------------------------------------------------------


def test_features_are_joined_in_vocabulary_order(tmp_path, caplog):
    items = pl.DataFrame(
        {"item_id": ["30", "9", "9", "77", "x"], "title": ["thirty", "nine", "nine", "unused", "no id"]}
    )
    users = pl.DataFrame({"user_id": ["c", "a"], "age": [3, 1]})
    data = make(tmp_path, EVENTS, items, users)
    assert data.item_table.to_dict(as_series=False) == {
        "item_id": [9, 10, 20, 30],
        "title": ["nine", None, None, "thirty"],
    }
    assert data.user_table.to_dict(as_series=False) == {"user_id": ["a", "b", "c"], "age": [1, None, 3]}
    assert data.manifest["features"]["items"] == {"columns": ["title"], "without_row": 2, "duplicate_rows": 1}
    assert "1 rows of the feature table repeat item_id" in caplog.text


def test_a_feature_table_that_says_two_things_of_an_item_is_an_error(tmp_path):
    items = pl.DataFrame({"item_id": [9, 30, 9, 30, 9], "tags": [["a"], ["b"], ["a", "c"], ["b"], ["a"]]})
    with pytest.raises(
        RecsysLabError, match="has 1 item_id with rows that differ, first 9: keep one row for each item_id"
    ):
        make(tmp_path, EVENTS, items)


def test_a_feature_table_without_ids_is_an_error(tmp_path):
    with pytest.raises(RecsysLabError, match="feature table has no column 'item_id'; it has: id"):
        make(tmp_path, EVENTS, pl.DataFrame({"id": [1]}))


# -- reuse -------------------------------------------------------------------------------------------------------------


def prepared_again(caplog, folder, source, **chosen) -> str:
    """'' if reused, otherwise the logged reason."""
    caplog.clear()
    reads = source.reads
    with caplog.at_level(logging.INFO, "recsys_lab"):
        prepare(source, PrepareSettings(**chosen), folder / "made", folder / "raw")
    if source.reads == reads:
        assert "reused" in caplog.text
        return ""
    return next((r.getMessage().partition("again: ")[2] for r in caplog.records if "again: " in r.getMessage()), "new")


def test_reuse_only_of_the_same_source_and_settings(tmp_path, caplog):
    source, changed = MadeSource(EVENTS), MadeSource({**EVENTS, "timestamp": [6, 7, 5, 3, 9, 1]})
    assert prepared_again(caplog, tmp_path, source) == "new"
    assert prepared_again(caplog, tmp_path, source) == ""
    assert prepared_again(caplog, tmp_path, source, min_length=2) == "min_length changed from 1 to 2"
    assert prepared_again(caplog, tmp_path, source, min_length=2) == ""
    assert prepared_again(caplog, tmp_path, changed, min_length=2) == "the files of 'made' changed"
    renamed = MadeSource(EVENTS, name="other")
    assert "it was made of source 'made', not 'other'" in prepared_again(caplog, tmp_path, renamed, min_length=2)
    types = {"event_types": ["view", "buy"]}
    assert "event_types changed from none to buy,view" in prepared_again(caplog, tmp_path, renamed, **types)
    assert prepared_again(caplog, tmp_path, renamed, event_types=["buy", "view"]) == ""


def test_a_damaged_set_is_prepared_again(tmp_path, caplog):
    source = MadeSource(EVENTS)
    prepared_again(caplog, tmp_path, source)
    (tmp_path / "made" / "item_ids.npy").write_bytes(b"")
    assert "is damaged: item_ids.npy can't be read" in prepared_again(caplog, tmp_path, source)
    assert ProcessedDataset.open(tmp_path / "made", verify=True).num_events == 6


def test_a_prepared_set_is_used_where_the_raw_files_can_not_be_had(tmp_path, caplog):
    class Offline(MadeSource):
        failure = DownloadError("no network")

        def fingerprint(self, raw_dir):
            raise self.failure

    make(tmp_path)
    assert prepared_again(caplog, tmp_path, Offline(EVENTS)) == ""
    assert "were not compared" in caplog.text and "no network" in caplog.text
    Offline.failure = ChecksumError("not the published file")  # there, but changed: that is no reason to go on
    with pytest.raises(ChecksumError, match="not the published file"):
        prepared_again(caplog, tmp_path, Offline(EVENTS))


def test_force_prepares_again(tmp_path):
    source = MadeSource(EVENTS)
    for _ in range(2):
        prepare(source, PrepareSettings(), tmp_path / "made", tmp_path, force=True)
    assert source.reads == 2


@pytest.mark.parametrize("force", [False, True])
def test_a_foreign_folder_is_never_replaced(tmp_path, force):
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "thesis.tex").write_text("years of work")
    with pytest.raises(ForeignFolderError, match="not a prepared data set"):
        prepare(MadeSource(EVENTS), PrepareSettings(), tmp_path / "made", tmp_path, force=force)
    assert (tmp_path / "made" / "thesis.tex").read_text() == "years of work"


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "made").mkdir()
    assert make(tmp_path).num_users == 3


# -- bad input ---------------------------------------------------------------------------------------------------------

GOOD = {"user_id": [1, 1, 2], "item_id": [1, 2, 1], "timestamp": [1, 2, 3]}


@pytest.mark.parametrize(
    ("events", "message"),
    [
        ({"user_id": [1], "item": [1]}, "has no column 'item_id'; it has: order, user_id, item"),
        ({**GOOD, "user_id": [1, None, 2]}, "1 of 3 rows with a null user_id, the first is row 2"),
        ({**GOOD, "item_id": [None, 1, None]}, "2 of 3 rows with a null item_id, the first is row 1"),
        ({**GOOD, "timestamp": [1, 2, None]}, "1 of 3 rows with a null timestamp, the first is row 3"),
        ({**GOOD, "timestamp": [1, -2, 3]}, "1 of 3 rows with a negative timestamp, the first is row 2"),
        ({**GOOD, "timestamp": [1.0, float("nan"), 3.0]}, "not a finite number, the first is row 2"),
        ({**GOOD, "timestamp": [1_600_000_000, 1_600_000_000_000, 1]}, "the units are mixed"),
        ({**GOOD, "timestamp": [1_600_000_000_000] * 3}, "they look like milliseconds"),
        ({**GOOD, "timestamp": ["yesterday"] * 3}, "timestamp is of type String"),
        ({**GOOD, "user_id": [1.5, 2.0, 3.0]}, "user_id holds the number 1.5"),
        ({**GOOD, "item_id": [True, False, True]}, "item_id is of type Boolean"),
        (pl.DataFrame(GOOD).clear(), "its table is empty"),
    ],
)
def test_bad_input_is_named(tmp_path, events, message):
    with pytest.raises(RecsysLabError, match=message):
        make(tmp_path, events)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"min_rating": 3.0}, "no column 'rating', which min_rating= needs"),
        ({"event_types": ["buy"]}, "no column 'event_type', which event_types= needs"),
    ],
)
def test_a_filter_without_its_column_is_named(tmp_path, chosen, message):
    with pytest.raises(RecsysLabError, match=message):
        make(tmp_path, GOOD, **chosen)


def test_dropping_duplicates_needs_time(tmp_path):
    with pytest.raises(RecsysLabError, match="without time, use 'first' or 'last'"):
        make(tmp_path, {"user_id": [1], "item_id": [1]}, duplicates="drop")


def test_an_unknown_event_type_lists_the_known_ones(tmp_path):
    with pytest.raises(RecsysLabError, match="unknown event type of 'made' 'by'; known: buy, view"):
        make(tmp_path, event_types=["by"])


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"duplicates": "dorp"}, "duplicates must be one of 'keep', 'drop', 'first', 'last', not 'dorp'"),
        ({"consecutive_repeats": "first"}, "consecutive_repeats must be one of 'keep', 'drop', not 'first'"),
        ({"tie_order": "stable"}, "tie_order must be one of 'file', 'hash', 'random', 'item_id', not 'stable'"),
        ({"tie_order": "hash"}, "tie_order='hash' needs a seed; give seed= a number"),
        ({"min_user_events": 0}, "min_user_events must be at least 1, not 0"),
        ({"min_length": 2.5}, "min_length must be a whole number, not 2.5"),
        ({"event_types": []}, "at least one name"),
        ({"event_types": "buy"}, "event_types must be a list of texts, not the text 'buy'"),
        ({"min_rating": "high"}, "min_rating must be a finite number or None, not the text 'high'"),
    ],
)
def test_settings_are_checked(chosen, message):
    with pytest.raises(RecsysLabError, match=message):
        PrepareSettings(**chosen)


def test_settings_from_plain_data_name_the_unknown():
    assert PrepareSettings.from_dict({"min_length": 2}) == PrepareSettings(min_length=2)
    with pytest.raises(RecsysLabError, match="unknown prepare setting 'min_len'; known: min_rating, "):
        PrepareSettings.from_dict({"min_len": 2})
