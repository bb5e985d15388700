"""polars and pandas frames instead of files."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import lightning as L
import pandas as pd
import polars as pl
import pytest
from small_data import quiet_trainer

from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.data.prepare.pipeline import NameTakenError, PrepareSettings, prepare
from recsys_lab.data.prepare.processed import ProcessedDataset
from recsys_lab.data.reading.columns import Columns
from recsys_lab.data.reading.frames import FrameSource, as_frame
from recsys_lab.data.reading.table_checks import Rules
from recsys_lab.models import GRU4Rec
from recsys_lab.words import RecsysLabError

T = 1_600_000_000
EVENTS = {
    "user_id": ["b", "a", "a", "b", "a", "b", "a"],
    "item_id": [30, 10, 20, 10, 10, 20, 30],
    "timestamp": [T + 5, T + 7, T + 3, T + 5, T + 9, T + 8, T + 11],
}
ITEMS = {"item_id": [10, 20, 99], "price": [1.5, None, 3.0]}
USERS = {"user_id": ["a"], "city": ["x"]}
MOMENTS = [dt.datetime.fromtimestamp(t, dt.UTC) for t in EVENTS["timestamp"]]


def made(tmp_path: Path, events: Any, **more: Any) -> ProcessedDataset:
    source = FrameSource(events, name="frames", **more)
    return prepare(source, PrepareSettings(), tmp_path / "frames", tmp_path / "raw")


@pytest.mark.parametrize(
    "kind", ["polars", "lazy", "dict", "pandas", "pandas with zones", "pandas of the nullable kind"]
)
def test_every_kind_of_frame_is_the_same_data(kind: str, tmp_path: Path) -> None:
    expected = made(tmp_path / "expected", pl.DataFrame(EVENTS)).data_hash
    frames: dict[str, Any] = {
        "polars": pl.DataFrame(EVENTS),
        "lazy": pl.LazyFrame(EVENTS),
        "dict": EVENTS,
        "pandas": pd.DataFrame(EVENTS, index=range(5, 12)),
        "pandas with zones": pd.DataFrame(EVENTS | {"timestamp": pd.Series(MOMENTS).dt.tz_convert("Asia/Tokyo")}),
        "pandas of the nullable kind": pd.DataFrame(EVENTS).astype({"item_id": "Int64", "user_id": "category"}),
    }
    assert made(tmp_path, frames[kind]).data_hash == expected


def test_missing_values_of_pandas_are_missing_ids_and_times(tmp_path: Path) -> None:
    frame = pd.DataFrame(EVENTS | {"timestamp": pd.Series(MOMENTS)})
    frame.loc[1, "item_id"] = None  # the column is of floats now
    frame.loc[2, "timestamp"] = pd.NaT
    with pytest.raises(
        RecsysLabError, match=r"column 'item_id' has 1 missing id in 7 rows, first in row 2.*missing_ids="
    ):
        made(tmp_path, frame)
    data = made(tmp_path, frame, rules=Rules("drop", "drop"))
    assert data.num_events == 5
    assert data.manifest["left_out"] == {"rows without an id": 1, "rows without a usable time": 1}


def test_features_of_items_and_users_are_joined(tmp_path: Path) -> None:
    events = pd.DataFrame(EVENTS).rename(columns={"item_id": "sku"})
    items = pd.DataFrame(ITEMS).rename(columns={"item_id": "sku"})
    data = made(tmp_path, events, items=items, users=pl.DataFrame(USERS), columns=Columns(item="sku"))
    assert data.item_table.to_dict(as_series=False)["item_id"] == [10, 20, 30]
    assert data.item_table["price"].to_list()[0] == 1.5
    assert data.user_table.to_dict(as_series=False) == {"user_id": ["a", "b"], "city": ["x", None]}


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        ([1, 2], "events is a builtins.list; give a polars or pandas DataFrame, or FileSource"),
        ({"a": [1], "b": [1, 2]}, "can't be read as a frame"),
        (pd.DataFrame({"user_id": [{1}, {2}]}), "column 'user_id' of the events holds Python objects"),
        (pl.DataFrame({"user_id": [{1}]}, schema={"user_id": pl.Object}), "column 'user_id' of the events holds"),
        (pd.DataFrame([[1, 2]], columns=["x", "x"]), "two columns named 'x'"),
    ],
)
def test_what_is_no_frame(frame: Any, message: str) -> None:
    with pytest.raises(RecsysLabError, match=message):
        as_frame(frame, "events")


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecsysLabError, match=r"the events of 'frames' has no column 'item_id'.*Columns\(item=...\)"):
        made(tmp_path, {"user_id": [1], "items": [2]})
    with pytest.raises(RecsysLabError, match="the items of 'frames' have no column 'item_id'"):
        made(tmp_path, EVENTS, items={"sku": [1]})


def test_from_frames_prepares_once_and_trains(tmp_path: Path) -> None:
    rows = [(u, (u + i) % 9, T + 60 * i) for u in range(12) for i in range(6)]
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    data = SequenceDataModule.from_frames(frame, data_dir=tmp_path, max_length=5, batch_size=4)
    again = SequenceDataModule.from_frames(frame, data_dir=tmp_path, max_length=5)
    assert data.dataset == again.dataset and len(list(tmp_path.glob("frames-*/manifest.json"))) == 1
    L.seed_everything(0)
    trainer = quiet_trainer(tmp_path)
    trainer.fit(GRU4Rec(embedding_dim=4, hidden_dim=4), data)
    (found,) = trainer.test(GRU4Rec(embedding_dim=4, hidden_dim=4), data, verbose=False) or [{}]
    assert data.spec.num_items == 9 and trainer.global_step > 0 and isinstance(found, dict)


def test_a_name_of_frames_means_one_data_set(tmp_path: Path) -> None:
    SequenceDataModule.from_frames(EVENTS, name="shop", data_dir=tmp_path)
    other = PrepareSettings(min_user_events=4)
    with pytest.raises(NameTakenError, match="min_user_events changed from 1 to 4.*replace=True"):
        SequenceDataModule.from_frames(EVENTS, name="shop", data_dir=tmp_path, prepare=other)
    data = SequenceDataModule.from_frames(EVENTS, name="shop", data_dir=tmp_path, prepare=other, replace=True)
    assert data.processed.num_users == 1
    with pytest.raises(RecsysLabError, match="'ml-100k' can't be the name of a data set"):
        SequenceDataModule.from_frames(EVENTS, name="ml-100k", data_dir=tmp_path)
