"""Newer events behind those of a prepared set: the same as preparing all at once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from recsys_lab.cli import main
from recsys_lab.data.prepare.append import append
from recsys_lab.data.prepare.pipeline import PrepareSettings, prepare
from recsys_lab.data.prepare.processed import ProcessedDataset
from recsys_lab.data.reading.frames import FrameSource
from recsys_lab.words import RecsysLabError

T = 1_600_000_000


def log(rows: int = 120, **changes: Any) -> pl.DataFrame:
    """Events in the order of time, with a field of every kind; some share their time with the one before."""
    rng = np.random.default_rng(1)
    places = [None, "shop", "web", "app"]
    frame = pl.DataFrame(
        {
            "user_id": rng.integers(0, 12, rows),
            "item_id": [f"i{n}" for n in rng.integers(0, 15, rows)],
            "timestamp": T + np.arange(rows) // 2 * 10,
            "event_type": np.array(["view", "buy", "cart"])[rng.integers(0, 3, rows)],
            "place": [places[n] for n in rng.integers(0, 4, rows)],
            "price": [None if n == 0 else 0.1 * n for n in rng.integers(0, 9, rows)],
            "tags": [[f"t{n}" for n in range(rng.integers(0, 4))] for _ in range(rows)],
            "vector": [None if n == 0 else [float(n), 0.5 * n] for n in rng.integers(0, 5, rows)],
            "note": [f"note {n}" for n in range(rows)],
            "stock": rng.integers(0, 3, rows),
            "city": [f"c{n % 4}" for n in range(rows)],
        }
    )
    return frame.with_columns(**changes)


FIELDS = ["stock=item.categorical", "city=user.categorical", "place=categorical@query"]
ITEMS = pl.DataFrame({"item_id": [f"i{n}" for n in range(15)], "year": [1990 + n % 3 for n in range(15)]})
USERS = pl.DataFrame({"user_id": list(range(12)), "name": [f"user {n}" for n in range(12)]})
SHOWN = pl.DataFrame(
    {
        "impression_id": [n // 3 for n in range(60)],
        "user_id": [n // 3 % 12 for n in range(60)],
        "item_id": [f"i{n % 15}" for n in range(60)],
        "timestamp": [T + 20 * (n // 3) for n in range(60)],
        "label": [int(n % 3 == 0) for n in range(60)],
        "position": [n % 3 for n in range(60)],
    }
)


def source(events: pl.DataFrame, name: str = "shop", **tables: Any) -> FrameSource:
    return FrameSource(events, name=name, **tables)


def both(folder: Path, events: pl.DataFrame, cut: int, tables: bool = True, **settings: Any) -> list[ProcessedDataset]:
    """The set prepared at once, and the one whose events from `cut` on were appended."""
    chosen = PrepareSettings(**settings)
    every = {"items": ITEMS, "users": USERS, "impressions": SHOWN} if tables else {}
    early = every | ({"impressions": SHOWN[:30]} if tables else {})
    late = every | ({"impressions": SHOWN[30:]} if tables else {})
    at_once = prepare(source(events, **every), chosen, folder / "at_once", folder / "raw")
    prepare(source(events[:cut], **early), chosen, folder / "shop", folder / "raw")
    return [at_once, append(folder / "shop", source(events[cut:], "newer", **late), folder / "raw")]


def assert_same(a: ProcessedDataset, b: ProcessedDataset) -> None:
    assert a.data_hash == b.data_hash and a.vocabulary_hash == b.vocabulary_hash
    assert a.fields == b.fields and a.fields_hash == b.fields_hash and a.shown_hash == b.shown_hash
    assert a.arrays.keys() == b.arrays.keys() and a.manifest["features"] == b.manifest["features"]
    left = [[(step["name"], step["events"]) for step in data.manifest["steps"]] for data in (a, b)]
    assert left[0] == left[1] and a.manifest["steps"][-1] == b.manifest["steps"][-1]
    for name in a.arrays:
        np.testing.assert_array_equal(a.arrays[name], b.arrays[name], err_msg=name)
    assert a.user_ids.equals(b.user_ids) and a.item_ids_raw.equals(b.item_ids_raw)
    for key, field in a.fields.items():
        if field.has_values:
            assert a.field_values(key).equals(b.field_values(key)), key
        elif field.kind == "text":
            assert a.field_text(key).equals(b.field_text(key)), key
    assert ProcessedDataset.open(b.path, verify=True).fields == b.fields


SETTINGS: list[dict[str, Any]] = [
    {"min_rating": 0.3},
    {"keep": ["price>=0.3", "event_type in buy,view"]},
    {"event_types": ["buy"]},
    {"duplicates": "drop", "consecutive_repeats": "drop"},
    {"duplicates": "first"},
    {"duplicates": "last"},
    {"tie_order": "hash", "seed": 3},
]


# 61: between two events of one time
@pytest.mark.parametrize(
    ("settings", "cut"), [*(({}, cut) for cut in (60, 110)), *((s, 61) for s in SETTINGS)], ids=str
)
def test_appending_is_preparing_at_once(settings: dict[str, Any], cut: int, tmp_path: Path) -> None:
    events = log().with_columns(rating=pl.col("price"))
    tables = not {"min_rating", "keep", "event_types"} & set(
        settings
    )  # what was shown to a user without events is gone
    assert_same(*both(tmp_path, events, cut, tables, fields=FIELDS, **settings))


def test_in_parts_that_do_not_fit_into_memory(tmp_path: Path, monkeypatch) -> None:
    for name, size in (("decoded.DECODED_AT_ONCE", 7), ("buckets.BUCKET_EVENTS", 9), ("sorted_events.BLOCK_EVENTS", 8)):
        monkeypatch.setattr(f"recsys_lab.data.prepare.{name}", size)
    assert_same(*both(tmp_path, log(), 70, fields=FIELDS))


def test_without_time_the_newer_rows_come_last(tmp_path: Path) -> None:
    events = log().drop("timestamp")
    assert_same(*both(tmp_path, events, 50, tables=False))


def test_newer_events_bring_users_items_values_and_other_types(tmp_path: Path) -> None:
    old = pl.DataFrame({"user_id": [1, 2], "item_id": [7, 8], "timestamp": [T, T + 1], "place": [1, 1], "size": [1, 2]})
    new = pl.DataFrame({"user_id": [3], "item_id": ["x"], "timestamp": [T + 2], "place": ["a"], "size": [2.5]})
    chosen = PrepareSettings(fields=["place=categorical", "size=numeric"])
    prepare(source(old), chosen, tmp_path / "shop", tmp_path)
    data = append(tmp_path / "shop", source(new, "new"), tmp_path)
    assert data.user_ids.to_list() == [1, 2, 3] and data.item_ids_raw.to_list() == ["7", "8", "x"]
    assert data.field_values("place").to_list() == ["1", "a"] and data.field_array("size").tolist() == [1, 2, 2.5]


def test_what_was_appended_is_known(tmp_path: Path) -> None:
    events = log()
    _, data = both(tmp_path, events, 60, tables=False)
    assert [one["events"] for one in data.manifest["appended"]] == [60]
    assert data.manifest["settings"] == PrepareSettings().as_dict() and data.name == "shop"
    with pytest.raises(RecsysLabError, match="'newer' was appended to 'shop' before"):
        append(tmp_path / "shop", source(events[60:], "newer"), tmp_path / "raw")
    more = log(140)[120:]
    assert append(tmp_path / "shop", source(more, "more"), tmp_path / "raw").num_events == 140


@pytest.mark.parametrize(
    ("settings", "newer", "message"),
    [
        ({}, log()[50:], "8 events of 'newer' are older than the newest of 'shop' .*first is in row 1: only newer"),
        ({"min_user_events": 2}, log()[60:], "'shop' can't be appended to: min_user_events=2 dropped events"),
        (
            {"min_length": 2},
            log()[60:],
            "min_length=2 dropped events that newer ones could have kept. Prepare everything",
        ),
        ({"tie_order": "random", "seed": 1}, log()[60:], "tie_order=random drew an order by the rows"),
        ({"consecutive_repeats": "drop", "tie_order": "item_id"}, log()[60:], "consecutive_repeats=drop looked at"),
        ({}, log()[60:].drop("timestamp"), "can't be appended to 'shop': it has no column 'timestamp'"),
        ({}, log()[60:].with_columns(price=pl.lit("dear")), "'price' .*that are no numbers, so it can't be numeric"),
        ({}, log()[60:].with_columns(vector=pl.lit([1.0, 2.0, 3.0])), "'vector' has 3 numbers in a row, the set has 2"),
        ({"keep": ["price>0.2"]}, log()[60:].with_columns(price=0.1), "the filters of 'shop' leave none of the events"),
        ({"min_rating": 1.0}, log()[60:], "'newer' has no column 'rating', which min_rating= needs"),
    ],
)
def test_what_can_not_be_appended(settings: dict[str, Any], newer: pl.DataFrame, message: str, tmp_path: Path) -> None:
    events = log()[:60].with_columns(rating=pl.lit(5.0)) if "min_rating" in settings else log()[:60]
    before = prepare(source(events), PrepareSettings(**settings), tmp_path / "shop", tmp_path).data_hash
    with pytest.raises(RecsysLabError, match=message):
        append(tmp_path / "shop", source(newer, "newer"), tmp_path)
    assert ProcessedDataset.open(tmp_path / "shop").data_hash == before
    assert {path.name for path in tmp_path.iterdir()} <= {"shop", ".shop.lock"}


def test_parts_of_a_second_must_be_later(tmp_path: Path) -> None:
    events = pl.DataFrame({"user_id": [1, 1], "item_id": [1, 2], "timestamp": [T + 0.25, T + 0.75]})
    prepare(source(events), PrepareSettings(), tmp_path / "shop", tmp_path)
    newer = pl.DataFrame({"user_id": [1], "item_id": [1], "timestamp": [T]})
    with pytest.raises(RecsysLabError, match="1 event of 'newer' is older"):
        append(tmp_path / "shop", source(newer, "newer"), tmp_path)
    assert append(tmp_path / "shop", source(newer.with_columns(timestamp=T + 1), "newer"), tmp_path).num_events == 3


# -- from the command line ---------------------------------------------------------------------------------------------


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    events = log().drop("tags", "vector").rename({"user_id": "who"})
    events[:60].write_csv("old.csv", separator=";")
    events[60:].write_csv("new.csv", separator=";")
    events.write_csv("all.csv", separator=";")
    ITEMS.write_csv("items.csv")
    return tmp_path


@pytest.mark.parametrize(("column", "new"), [("user_id", 99), ("item_id", "i99")])
def test_what_was_shown_before_the_first_event_of_its_user_or_item(column: str, new: Any, tmp_path: Path) -> None:
    """The rows of users without events are not stored: at once they would be kept. Items are kept without events."""
    shown = SHOWN.with_columns(
        pl.when(pl.col(column) == SHOWN[column][0]).then(pl.lit(new)).otherwise(column).alias(column)
    )
    early, late = log()[:100], log()[100:]
    prepare(source(early, impressions=shown), PrepareSettings(), tmp_path / "shop", tmp_path / "raw")
    new_one = late[:1].with_columns(pl.lit(new, late.schema[column]).alias(column), timestamp=late["timestamp"][-1:])
    more = pl.concat([late, new_one])
    if column == "item_id":
        appended = append(tmp_path / "shop", source(more, "newer"), tmp_path / "raw")
        settings = PrepareSettings()
        whole = prepare(source(pl.concat([early, more]), "shop", impressions=shown), settings, tmp_path / "w", tmp_path)
        assert appended.shown_hash == whole.shown_hash and appended.data_hash == whole.data_hash
        return
    with pytest.raises(RecsysLabError, match=r"it has new users, and 6 shown items of unknown users were left out"):
        append(tmp_path / "shop", source(more, "newer"), tmp_path / "raw")
    data = append(tmp_path / "shop", source(late, "newer"), tmp_path / "raw")  # of none but users and items that it has
    assert data.num_events == 120


HOW = ["--separator", ";", "--user_column", "who"]


def test_the_command_reads_newer_files_as_the_first_one(here: Path, capsys) -> None:
    more = ["--items", "items.csv", "--fields", "stock=item.categorical,city=drop"]
    assert main(["prepare", "--input", "old.csv", "--name", "shop", *HOW, *more]) == 0
    assert main(["prepare", "--input", "all.csv", "--name", "at_once", *HOW, *more]) == 0
    capsys.readouterr()
    assert main(["prepare", "shop", "--append", "new.csv", "--items", "items.csv"]) == 0
    said = capsys.readouterr().out
    assert "120 events" in said and "fields    of items: year (categorical), stock (categorical)" in said
    assert_same(ProcessedDataset.open("data/at_once"), ProcessedDataset.open("data/shop"))
    assert main(["prepare", "--input", "old.csv", "--name", "shop", *HOW, *more]) == 2  # would lose what was appended
    assert "appended changed from new.csv to none" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--append", "new.csv"], "--append FILE needs the name of the prepared set"),
        (["shop", "--append", "new.csv", "--input", "old.csv"], "and no --input"),
        (["shop", "--append", "new.csv", "--min_length", "3"], "keeps the settings of the set: leave --min_length out"),
        (["shop", "--append", "new.csv", "--keep", "a>3"], "leave --keep out"),
        (["ml-100k", "--append", "new.csv"], "'ml-100k' is a public data set, which stays as published"),
        (["nothing", "--append", "new.csv"], "there is no prepared data set at .*nothing"),
        (["shop", "--append", "old.csv"], "58 events of 'old' are older than the newest of 'shop'"),
        (["shop", "--append", "none.csv"], "there is no file none.csv"),
    ],
)
def test_the_command_says_what_can_not_be_appended(arguments: list[str], message: str, here: Path, capsys) -> None:
    assert main(["prepare", "--input", "old.csv", "--name", "shop", *HOW]) == 0
    before = (here / "data" / "shop" / "manifest.json").read_bytes()
    capsys.readouterr()
    assert main(["prepare", *arguments]) == 2
    error = capsys.readouterr().err
    assert re.search(message, error) and len(error.split("error: ")[1].strip().splitlines()) == 1, error
    assert (here / "data" / "shop" / "manifest.json").read_bytes() == before
