"""Further columns of the tables as stored fields of a prepared set."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from made_source import MadeSource

from recsys_lab.data.prepare.pipeline import PrepareSettings, prepare
from recsys_lab.data.prepare.processed import ProcessedDataset
from recsys_lab.data.prepare.stamp import STAMP
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
