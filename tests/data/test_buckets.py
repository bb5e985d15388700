"""The external sort against one sort in memory."""

from __future__ import annotations

import logging
import re
import tempfile
from pathlib import Path
from unittest.mock import patch

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_source import MadeSource

from recsys_lab.data.prepare import buckets, progress, sorted_events
from recsys_lab.data.prepare.buckets import bucket_of_users, dense_codes, in_buckets, sorted_by
from recsys_lab.data.prepare.pipeline import PrepareSettings, prepare
from recsys_lab.data.prepare.processed import ProcessedDataset

WIDE = st.one_of(st.integers(-3, 3), st.sampled_from([-(2**63), 2**63 - 1]), st.integers(1_600_000_000, 1_600_000_009))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), WIDE, st.floats(-2, 2), st.integers(0, 3)), min_size=1, max_size=30))
def test_sorted_by_is_a_sort_by_all_keys(rows: list[tuple[int, int, float, int]]) -> None:
    schema = {"a": pl.UInt32, "b": pl.Int64, "c": pl.Float64, "d": pl.Int8}
    frame = pl.DataFrame(rows, schema=schema, orient="row").with_row_index("row")
    for names in (["a", "b", "c", "d", "row"], ["a", "d", "row"], ["row"], ["b", "row"], ["c", "a", "b", "row"]):
        for own in ([], names[:2], names):
            found = sorted_by(frame, [frame[name] for name in names], own)
            assert found.equals(frame.sort(names)) and found.schema == frame.schema, (names, own)
        numbers = frame.select(names)  # nothing is left to be taken from
        assert sorted_by(numbers, numbers.get_columns(), names).equals(numbers.sort(names)), names


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from([0, 1, 2**40, 2**62])), max_size=30))
def test_sorted_by_keeps_the_order_of_equal_rows(rows: list[tuple[int, int]]) -> None:
    frame = pl.DataFrame(rows, schema={"a": pl.UInt32, "b": pl.Int64}, orient="row").with_row_index("row")
    found = sorted_by(frame, [frame["a"], frame["b"]])
    assert found.equals(frame.sort("a", "b", maintain_order=True))


@given(
    st.sampled_from([pl.Int8, pl.Int64, pl.UInt64]),
    st.lists(st.integers(-128, 127), min_size=1, max_size=30),
    st.sampled_from([0, 2**63 - 128, -(2**63) + 128]),
)
def test_dense_codes_are_places(dtype: type[pl.DataType], numbers: list[int], shift: int) -> None:
    if dtype == pl.Int8:
        shift = 0
    if dtype == pl.UInt64:
        shift = 2**64 - 128
    column = pl.Series("id", [number + shift for number in numbers], dtype=dtype)
    ids = column.unique().sort()
    codes = dense_codes(ids)
    assert codes is not None
    found = column.to_frame().lazy().select(codes).collect(engine="streaming").to_series()
    assert found.dtype == pl.UInt32 and ids.gather(found).to_list() == column.to_list()


def test_dense_codes_are_for_dense_numbers() -> None:
    assert dense_codes(pl.Series("id", [1, 10**9])) is None, "a table of a billion entries"
    assert dense_codes(pl.Series("id", ["a", "b"])) is None


@given(st.lists(st.integers(1, 9), min_size=1, max_size=30), st.integers(1, 20))
def test_buckets_hold_whole_users_in_order(counts: list[int], size: int) -> None:
    with patch.object(buckets, "BUCKET_EVENTS", size):
        bucket = bucket_of_users(np.array(counts))
    assert (np.diff(bucket.astype(int)) >= 0).all()
    for number in set(bucket.tolist()):
        users = np.flatnonzero(bucket == number)
        assert sum(counts[user] for user in users[1:]) < size, "a bucket is full before its last user"


def test_rows_come_back_by_bucket_and_the_files_are_gone(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frame = pl.DataFrame({buckets.BUCKET: rng.choice([0, 1, 3], 1000).astype(np.uint16), "row": np.arange(1000)})
    frames = list(in_buckets(frame.lazy(), 4, tmp_path / "buckets"))
    assert [found.columns for found in frames] == [["row"]] * 3  # no row is in bucket 2
    for number, found in zip([0, 1, 3], frames, strict=True):
        expected = frame.filter(pl.col(buckets.BUCKET) == number)["row"]
        assert found["row"].sort().to_list() == expected.to_list()
    assert list((tmp_path / "buckets").iterdir()) == []


def made_log(as_text: bool) -> pl.DataFrame:
    """Arithmetic and no generator of numpy: the hashes below must not depend on its version."""
    n = np.arange(3000)
    frame = pl.DataFrame(
        {
            "user_id": n * n % 97 * (n % 3),
            "item_id": n * 37 % 211 * (n % 5) % 61,
            "timestamp": n * 7919 % 800 / 2,
            "event_type": np.array(["view", "buy", "cart"])[n * n % 7 % 3],
            "rating": n * 31 % 50 / 10,
        }
    )
    return frame.with_columns(pl.col("user_id", "item_id").cast(pl.String)) if as_text else frame


def manifest_of(data: ProcessedDataset) -> dict:
    assert ProcessedDataset.open(data.path, verify=True).num_events == data.num_events
    return {k: v for k, v in data.manifest.items() if k not in ("created", "seconds")}


@pytest.mark.parametrize("as_text", [False, True])
@pytest.mark.parametrize(
    "chosen",
    [
        {},
        {"min_user_events": 5, "min_item_events": 20, "consecutive_repeats": "drop", "min_length": 6},
        {"min_rating": 1.5, "event_types": ["buy", "view"], "duplicates": "first", "min_item_events": 5},
        {"tie_order": "hash", "seed": 3, "duplicates": "drop"},
        {"tie_order": "random", "seed": 3, "min_user_events": 3, "min_item_events": 9, "k_core_iterate": False},
    ],
)
def test_a_set_is_the_same_whatever_fits_into_memory(tmp_path: Path, as_text: bool, chosen: dict) -> None:
    """Many buckets on disk and blocks of one user give the bytes, counts and hashes of one bucket in memory."""
    source, made = MadeSource(made_log(as_text)), PrepareSettings(**chosen)
    whole = prepare(source, made, tmp_path / "whole", tmp_path)
    with patch.object(buckets, "BUCKET_EVENTS", 50), patch.object(sorted_events, "BLOCK_EVENTS", 1):
        parts = prepare(source, made, tmp_path / "parts", tmp_path)
    assert manifest_of(parts) == manifest_of(whole)
    assert {path.name for path in parts.path.iterdir()} == {path.name for path in whole.path.iterdir()}


def test_the_prepared_bytes_are_those_of_the_first_version(tmp_path: Path) -> None:
    """Fixed hashes, taken when `prepare` still sorted one frame in memory."""
    chosen = {"min_user_events": 5, "min_item_events": 20, "consecutive_repeats": "drop", "duplicates": "drop"}
    data = prepare(MadeSource(made_log(False)), PrepareSettings(**chosen), tmp_path / "made", tmp_path)
    assert (data.data_hash, data.vocabulary_hash) == ("b6841fbed23e7abc", "d0e794e10cc33c03")


def test_long_work_says_what_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def lines(name: str) -> str:
        caplog.clear()
        with caplog.at_level(logging.INFO, "recsys_lab"):
            prepare(MadeSource(made_log(False)), PrepareSettings(min_item_events=20), tmp_path / name, tmp_path)
        return caplog.text

    monkeypatch.setattr(progress, "QUIET_SECONDS", 1e9)
    assert "after" not in lines("quick")
    monkeypatch.setattr(progress, "QUIET_SECONDS", 0.0)
    monkeypatch.setattr(buckets, "BUCKET_EVENTS", 300)
    text = lines("slow")
    for stage in ("counting events", "reading 3,000 events", "sorting part 1 of 10"):
        assert re.search(rf"after \d+ s: {stage}", text), stage
    assert "k-core pass 1: 3,000 events" in text and "writing what is left" in text


def test_a_stopped_prepare_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the middle of the sort."""
    real, calls = sorted_events.SortedEvents.append, []

    def append(self: sorted_events.SortedEvents, frame: pl.DataFrame) -> None:
        calls.append(frame.height)
        if len(calls) == 3:
            raise KeyboardInterrupt
        real(self, frame)

    monkeypatch.setattr(sorted_events.SortedEvents, "append", append)
    monkeypatch.setattr(buckets, "BUCKET_EVENTS", 50)
    with tempfile.TemporaryDirectory(dir=tmp_path) as folder:
        with pytest.raises(KeyboardInterrupt):
            prepare(MadeSource(made_log(False)), PrepareSettings(), Path(folder) / "made", tmp_path)
        assert [path.name for path in Path(folder).iterdir()] == [".made.lock"]
