"""Further columns of the tables as stored fields of a prepared set."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from made_source import MadeSource

from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.data.prepare.pipeline import PrepareSettings, prepare
from recsys_lab.data.prepare.processed import ProcessedDataset
from recsys_lab.data.prepare.stamp import STAMP
from recsys_lab.data.reading.frames import FrameSource
from recsys_lab.words import RecsysLabError

EVENTS = {
    "user_id": ["b", "a", "b", "a"],
    "item_id": [3, 1, 1, 2],
    "timestamp": [5, 7, 6, 3],
    "event_type": ["view", "buy", "view", "cart"],
}


def made(folder: Path, events=EVENTS, items=None, users=None, **settings) -> ProcessedDataset:
    return prepare(MadeSource(events, items, users), PrepareSettings(**settings), folder / "made", folder / "raw")


def test_an_event_type_is_a_field(tmp_path: Path) -> None:
    data = made(tmp_path)
    field = data.field("event_type")
    assert (field.scope, field.kind, field.known_at, field.num_values) == ("event", "categorical", "before", 3)
    assert isinstance(data.field_array("event_type"), np.memmap)
    assert data.field_values("event_type").to_list() == ["buy", "cart", "view"]
    assert data.field_array("event_type").tolist() == [2, 1, 3, 3] and data.event_types.tolist() == [2, 1, 3, 3]
    with pytest.raises(RecsysLabError, match="unknown field of 'made' 'price'; known: event_type"):
        data.field_array("price")


def test_the_data_hash_is_that_of_the_versions_before(tmp_path: Path) -> None:
    """Results that were written with it stay comparable: measured with the code before there were fields."""
    data = made(tmp_path)
    assert (data.data_hash, data.vocabulary_hash) == ("6eba1b83a6d5d5c3", "a36b1f2c3f84522d")
    assert data.field_hash("event_type") != data.fields_hash


def as_version_1(folder: Path) -> None:
    """What the version before wrote: event types beside the other arrays, and their names in the manifest."""
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["fields"]
    names = pl.read_parquet(folder / "events" / "event_type.parquet")["value"].to_list()
    manifest["arrays"]["event_types"] = manifest["arrays"].pop("events/event_type")
    manifest["tables"].pop("events/event_type.parquet")
    (folder / "events" / "event_type.npy").rename(folder / "event_types.npy")
    manifest |= {"format_version": 1, "event_type_names": names}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / STAMP).unlink()


def test_a_set_of_the_version_before_is_read_through_the_same_interface(tmp_path: Path) -> None:
    new = made(tmp_path)
    hashes, codes = (new.data_hash, new.vocabulary_hash), new.field_array("event_type").tolist()
    as_version_1(new.path)
    old = ProcessedDataset.open(new.path)
    assert (old.data_hash, old.vocabulary_hash) == hashes
    assert old.field_array("event_type").tolist() == codes and old.field_values("event_type").to_list()[0] == "buy"
    with pytest.raises(RecsysLabError, match="has no field 'price': it was prepared by an older version"):
        old.field("price")
    assert made(tmp_path).manifest["format_version"] == 2  # its source is there: prepared again, with all columns


# -- kinds -------------------------------------------------------------------------------------------------------------

T = 1_600_000_000
RICH = pl.DataFrame(
    {
        "user_id": [1, 1, 2, 2, 2, 3],
        "item_id": ["a", "b", "a", "c", "b", "a"],
        "timestamp": [T, T + 1, T + 5, T + 6, T + 7, T + 9],
        "device": ["tv", "web", None, "tv", "web", "tv"],
        "price": [1.5, None, 2.5, float("nan"), 2.5, 3.0],
        "quantity": [1, 2, 1, 1, None, 2],
        "tags": [["x", "y"], None, ["y"], [], ["z", "x", None], ["y"]],
        "vector": [[1.0, 2.0], None, [3.0, 4.0], [5.0, 6.0], [7.0, 8.0], [9.0, 10.0]],
        "words": ["one", "two", "three", None, "five", "six"],
        "hour": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
    }
)


def test_a_vector_with_a_hole_is_missing(tmp_path: Path) -> None:
    """One number that isn't there would be no number in every score."""
    holes = RICH.with_columns(vector=pl.Series([[1.0, None], [float("nan"), 2.0]] * 2 + [[1.0, 2.0]] * 2))
    data = made(tmp_path, holes)
    assert decoded(data, "vector") == [None] * 4 + [[1.0, 2.0]] * 2 and data.field("vector").missing == 4


def test_dates_in_text_are_days_where_numbers_are_wanted(tmp_path: Path) -> None:
    frame = RICH.with_columns(words=pl.Series(["1970-01-03", None, "1970-01-02T12:00:00", "1970-01-01"] + [None] * 2))
    data = made(tmp_path, frame, fields=["words=numeric"])
    assert decoded(data, "words") == [2.0, None, 1.5, 0.0, None, None]


def in_order(data: ProcessedDataset, values: pl.Series) -> list[object]:
    """The values of `RICH` as the events are prepared: by user and time, which is their order in the table."""
    assert data.num_events == len(values)
    return values.to_list()


def decoded(data: ProcessedDataset, key: str) -> list[object]:
    """The raw values of a field, row by row."""
    field, kind = data.field(key), data.field(key).kind
    if kind == "text":
        return data.field_text(key).to_list()
    array = data.field_array(key)
    if kind == "numeric":
        return [None if np.isnan(value) else float(value) for value in array]
    if kind == "vector":
        assert array.shape[1] == field.width
        return [None if np.isnan(row).all() else row.tolist() for row in array]
    values = [None, *data.field_values(key).to_list()]
    if kind == "categorical":
        return [values[code] for code in array]
    ends = data.field_offsets(key)
    return [[values[code] for code in array[a:b]] or None for a, b in zip(ends[:-1], ends[1:], strict=True)]


def test_every_further_column_of_the_events_is_a_field(tmp_path: Path) -> None:
    data = made(tmp_path, RICH)
    kinds = {key: (field.kind, field.missing) for key, field in data.fields.items()}
    assert kinds == {
        "device": ("categorical", 1),
        "price": ("numeric", 2),
        "quantity": ("categorical", 1),
        "tags": ("multi", 2),
        "vector": ("vector", 1),
        "words": ("text", 1),
        "hour": ("numeric", 0),
    }
    assert decoded(data, "device") == in_order(data, RICH["device"])
    assert decoded(data, "price") == [1.5, None, 2.5, None, 2.5, 3.0]
    assert decoded(data, "quantity") == in_order(data, RICH["quantity"])
    assert decoded(data, "tags") == [["x", "y"], None, ["y"], None, ["z", "x"], ["y"]]
    assert decoded(data, "vector") == in_order(data, RICH["vector"])
    assert decoded(data, "words") == in_order(data, RICH["words"])
    assert data.field_array("device").dtype == np.uint8 and data.field_array("tags").dtype == np.uint8
    assert data.field("vector").width == 2 and data.field("tags").width == 2 and data.field("tags").num_values == 3
    assert data.field_values("quantity").dtype == pl.Int64
    assert ProcessedDataset.open(data.path, verify=True).fields == data.fields


def test_fields_of_items_and_users(tmp_path: Path) -> None:
    items = pl.DataFrame(
        {
            "item_id": ["b", "a", "z"],
            "genres": [["g", "h"], ["h"], ["q"]],
            "year": [1990, 1991, 7],
            "title": ["B", "A", "Z"],
        }
    )
    users = pl.DataFrame({"user_id": [3, 1], "age": [25.0, None], "sex": ["F", "M"]})
    data = made(tmp_path, RICH.select("user_id", "item_id", "timestamp"), items, users, fields=["title=text"])
    assert {key: field.kind for key, field in data.fields.items()} == {
        "item.genres": "multi", "item.year": "categorical", "item.title": "text",
        "user.age": "numeric", "user.sex": "categorical",
    }  # fmt: skip
    assert decoded(data, "item.genres") == [
        ["h"],
        ["g", "h"],
        None,
    ]  # a, b, c; values of z, which no event has, are none
    assert data.field_values("item.genres").to_list() == ["g", "h"]
    assert decoded(data, "item.year") == [1991, 1990, None] and decoded(data, "item.title") == ["A", "B", None]
    assert decoded(data, "user.age") == [None, None, 25.0] and decoded(data, "user.sex") == ["M", None, "F"]


def test_what_the_user_says_of_a_column(tmp_path: Path) -> None:
    said = [
        "device=categorical@query",
        "quantity=numeric",
        "hour=categorical",
        "tags=drop",
        "words=categorical",
        "*=drop",
    ]
    data = made(tmp_path, RICH, fields=said)
    kinds = {key: (field.kind, field.known_at) for key, field in data.fields.items()}
    assert kinds == {
        "device": ("categorical", "query"), "quantity": ("numeric", "before"), "hour": ("categorical", "before"),
        "words": ("categorical", "before"),
    }  # fmt: skip
    assert decoded(data, "quantity") == [1, 2, 1, 1, None, 2] and decoded(data, "hour") == [1, 2, 3, 4, 5, 6]
    assert data.manifest["settings"]["fields"] == sorted(said)


def test_a_column_of_the_events_can_belong_to_the_item_or_user(tmp_path: Path, caplog) -> None:
    said = [
        f"{name}=item.{kind}"
        for name, kind in {
            "price": "numeric",
            "device": "categorical",
            "tags": "multi",
            "vector": "vector",
            "words": "text",
        }.items()
    ]
    data = made(tmp_path, RICH, fields=[*said, "quantity=user.categorical"])
    assert decoded(data, "item.price") == [3.0, 2.5, None]  # of a, b, c: the last in time that has one
    assert decoded(data, "item.device") == ["tv", "web", "tv"]
    assert decoded(data, "item.tags") == [["y"], ["z", "x"], None]
    assert decoded(data, "item.vector") == [[9, 10], [7, 8], [5, 6]]
    assert decoded(data, "item.words") == ["six", "five", None] == data.item_table["words"].to_list()
    assert decoded(data, "user.quantity") == [2, 1, 2]
    assert {key: field.conflicts for key, field in data.fields.items() if field.from_events} == {
        "item.price": 1, "item.device": 0, "item.tags": 1, "item.vector": 1, "item.words": 2, "user.quantity": 1,
    }  # fmt: skip
    assert [None if np.isnan(v) else v for v in data.event_array("item.price")] == [1.5, None, 2.5, None, 2.5, 3.0]
    assert data.event_array("item.device").tolist() == [1, 2, 0, 1, 2, 1]
    assert np.diff(data.event_offsets("item.tags")).tolist() == [2, 0, 1, 0, 2, 1]
    assert ProcessedDataset.open(data.path, verify=True).fields == data.fields


def test_small_buckets_and_blocks_change_nothing(tmp_path: Path, monkeypatch) -> None:
    """Events that don't fit into memory at once go through files, and come out the same."""
    said = ["price=item.numeric", "words=item.text", "device=user.categorical"]
    rich = pl.concat([RICH.with_columns(pl.col("user_id") + 10 * n, pl.col("timestamp") + n) for n in range(7)])
    once = made(tmp_path / "once", rich.with_columns(copy=pl.col("words")), fields=said)
    monkeypatch.setattr("recsys_lab.data.prepare.buckets.BUCKET_EVENTS", 5)
    monkeypatch.setattr("recsys_lab.data.prepare.sorted_events.BLOCK_EVENTS", 4)
    many = made(tmp_path / "many", rich.with_columns(copy=pl.col("words")), fields=said)
    assert many.fields == once.fields and many.data_hash == once.data_hash and many.fields_hash == once.fields_hash
    for key in once.fields:
        assert decoded(many, key) == decoded(once, key), key


# -- keep --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("condition", "rows"),
    [
        ("device=tv", [0, 3, 5]),
        ("device != tv", [1, 2, 4]),
        ("device in web,tv", [0, 1, 3, 4, 5]),
        ("price>2", [2, 4, 5]),
        ("price>=2.5", [2, 4, 5]),
        ("price<2", [0]),
        ("quantity <= 1", [0, 2, 3]),
        ("quantity==2", [1, 5]),
        ("quantity in 2, 3", [1, 5]),
        ("user_id!=2", [0, 1, 5]),
        (f"timestamp>{T + 6}", [4, 5]),
        ("timestamp<2020-09-13 12:26:45", [0, 1]),
    ],
)
def test_conditions_on_a_column(condition: str, rows: list[int], tmp_path: Path) -> None:
    data = made(tmp_path, RICH.with_columns(row=pl.int_range(6)), keep=[condition], fields=["row=numeric"])
    assert sorted(data.field_array("row").tolist()) == rows
    plain = condition.replace(" in 2, 3", " in 2,3").replace("==", "=").replace(" != ", "!=").replace(" <= ", "<=")
    assert data.manifest["steps"][1]["name"] == f"keep {plain}" and data.manifest["steps"][1]["events"] == len(rows)
    assert data.manifest["settings"]["keep"] == [plain]


def test_conditions_are_met_together_and_the_older_settings_beside_them(tmp_path: Path) -> None:
    events = pl.DataFrame(EVENTS).with_columns(rating=pl.Series([1.0, 5.0, 4.0, 5.0]))
    data = made(tmp_path, events, min_rating=2, keep=["rating<5", "event_type in view,buy"])
    assert [step["name"] for step in data.manifest["steps"]] == [
        "read", "min_rating=2", "keep rating<5", "keep event_type in view,buy",
    ]  # fmt: skip
    assert (data.num_events, data.event_type_names) == (1, ["view"])


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("price", "keep= 'price' is no condition: write COLUMN OP VALUE"),
        ("price>", "is no condition"),
        ("prise>1", "no column 'prise'. Did you mean 'price'"),
        ("price>cheap", "'price' is compared as numbers, and 'cheap' is none"),
        ("device>3x", "'device' is compared as numbers, and '3x' is none"),
        ("tags=x", "'tags' is of type List.*, not plain values"),
        ("device in a,,b", "an empty value between its commas"),
        ("price>1000", "no event is left: keep price>1000 dropped all 6 events"),
        ("timestamp>yesterday", "'timestamp' is compared as numbers, and 'yesterday' is none"),
        ("device=web,app", r"no event is left: .* Any of several values is written keep='device in web,app'"),
        ("quantity=2,3", r"'2,3' is none\. Any of several values is written keep='quantity in 2,3'"),
        ("price>=2, device=web", r"is none\. Two conditions are written keep=\['price>=2', 'device=web'\]"),
    ],
)
def test_conditions_that_can_not_be(condition: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(RecsysLabError, match=message):
        made(tmp_path, RICH, keep=[condition])
    assert not (tmp_path / "made").exists()


# -- impressions -------------------------------------------------------------------------------------------------------

SHOWN = pl.DataFrame(
    {
        "impression_id": ["i2", "i2", "i1", "i1", "i3", "i3", "i1", "i4"],
        "user_id": [1, 1, 2, 2, 1, 1, 2, 9],
        "item_id": ["c", "a", "b", "zz", "a", "b", "a", "a"],
        "timestamp": [T + 9, T + 9, T + 2, T + 2, T + 1, T + 1, T + 2, T],
        "label": [0, 1, 1, 0, 0, None, 0, 1],
        "position": [1, 2, 1, 2, 1, 2, 3, 1],
        "price": [1.0, 2.0, None, 4.0, 5.0, 6.0, 7.0, 8.0],
    }
)


def with_shown(folder: Path, shown: pl.DataFrame, **settings) -> ProcessedDataset:
    source = FrameSource(RICH.select("user_id", "item_id", "timestamp"), impressions=shown, name="made")
    return prepare(source, PrepareSettings(**settings), folder / "made", folder / "raw")


def test_impressions_are_kept_by_user_and_time_and_unknown_ones_are_counted(tmp_path: Path) -> None:
    data = with_shown(tmp_path, SHOWN, fields=["position=categorical@query"])
    arrays = {name.removeprefix("shown/"): array.tolist() for name, array in data.arrays.items() if "shown" in name}
    assert data.num_impressions == 3 and data.impression_ids.to_list() == ["i3", "i2", "i1"]
    assert arrays["offsets"] == [0, 2, 4, 7] and arrays["users"] == [0, 0, 1]
    assert arrays["timestamps"] == [T + 1, T + 9, T + 2]
    assert [data.item_ids_raw[i - 1] for i in arrays["item_ids"]] == ["a", "b", "c", "a", "b", "zz", "a"]
    assert [None if np.isnan(x) else x for x in arrays["labels"]] == [0, None, 0, 1, 1, 0, 0]
    assert data.manifest["left_out"] == {"shown items of unknown users": 1}
    # an item without any event is one all the same: whether it has one is decided by what was clicked
    assert data.item_ids_raw[-1] == "zz" and data.manifest["num_only_shown"] == 1
    assert data.num_items == len(set(np.asarray(data.item_ids))) + 1
    assert decoded(data, "shown.position") == [1, 2, 1, 2, 1, 2, 3] and data.field("shown.position").known_at == "query"
    assert decoded(data, "shown.price") == [5, 6, 1, 2, None, 4, 7]
    assert ProcessedDataset.open(data.path, verify=True).shown_hash == data.shown_hash


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda shown: shown.drop("label"), "the impressions have no column 'label'; they have: user_id, item_id"),
        (lambda shown: shown.drop("impression_id"), "the impressions have no column 'impression_id'"),
        (lambda shown: shown.with_columns(label=pl.lit("yes")), "1 for clicked or 0 for not, and row 1 of"),
        (lambda shown: shown.with_columns(user_id=pl.lit(77)), "none of the 8 shown items is of a user and an item"),
        (lambda shown: shown.with_columns(impression_id=None), "8 shown items have no impression_id"),
    ],
)
def test_impressions_that_can_not_be(change, message: str, tmp_path: Path) -> None:
    with pytest.raises(RecsysLabError, match=message):
        with_shown(tmp_path, change(SHOWN))
    assert not (tmp_path / "made").exists()


def test_frames_of_all_four_tables_from_a_notebook(tmp_path: Path) -> None:
    users = pl.DataFrame({"user_id": [1, 2], "age": [30.5, 40.5]})
    items = pl.DataFrame({"item_id": ["a", "b"], "colour": ["red", "red"]})
    settings = PrepareSettings(fields=["note=drop", "price=item.numeric"], keep=["timestamp>0"])
    events = RICH.select("user_id", "item_id", "timestamp", "price", note="words")
    data = SequenceDataModule.from_frames(
        events, items, users, SHOWN.drop("price"), data_dir=tmp_path, prepare=settings, fields="all"
    ).processed
    assert list(data.fields) == ["item.colour", "item.price", "user.age", "shown.position"]
    assert data.num_impressions == 3


@pytest.mark.parametrize(("count", "dtype"), [(255, "uint8"), (256, "uint16"), (65_535, "uint16"), (65_536, "uint32")])
def test_codes_are_of_the_smallest_type(count: int, dtype: str, tmp_path: Path) -> None:
    values = np.arange(count)
    events = pl.DataFrame({"user_id": values // 9, "item_id": 0, "timestamp": T + values, "x_id": values})
    data = made(tmp_path, events)
    assert data.field_array("x_id").dtype == dtype and data.field("x_id").num_values == count
    assert decoded(data, "x_id") == values.tolist()
