from __future__ import annotations

import errno
import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from made_source import MadeSource

from recsys_lab.data.prepare import integrity, processed, stamp
from recsys_lab.data.prepare.integrity import value_faults
from recsys_lab.data.prepare.pipeline import PrepareSettings, prepare
from recsys_lab.data.prepare.processed import (
    ForeignFolderError,
    MissingDatasetError,
    ProcessedDataset,
    ProcessedDatasetError,
    array_sha256,
)
from recsys_lab.words import RecsysLabError

EVENTS = {"user_id": [1, 1, 2], "item_id": ["x", "y", "x"], "timestamp": [5, 6, 7]}


@pytest.fixture
def folder(tmp_path) -> Path:
    return prepare(MadeSource(EVENTS), PrepareSettings(), tmp_path / "made", tmp_path).path


def edit_manifest(folder: Path, **changes) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_arrays_are_read_only_maps(folder):
    data = ProcessedDataset.open(folder)
    for array in (data.item_ids, data.timestamps, data.offsets):
        assert isinstance(array, np.memmap)
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


def test_opening_reads_no_array_and_no_table(folder, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("read the data")

    monkeypatch.setattr(integrity, "array_sha256", refuse)
    monkeypatch.setattr(processed.pl, "read_parquet", refuse)
    monkeypatch.setattr(np, "fromfile", refuse)
    assert ProcessedDataset.open(folder).num_events == 3


def test_a_pickled_set_is_its_path(folder):
    """A memory map would otherwise be copied into each worker process."""
    data = ProcessedDataset.open(folder)
    content = pickle.dumps(data)
    again = pickle.loads(content)
    assert len(content) < 500
    assert isinstance(again.item_ids, np.memmap) and again.data_hash == data.data_hash


def test_hashes_tell_data_and_vocabulary_apart(tmp_path):
    def hashes(name, **changes):
        data = prepare(MadeSource({**EVENTS, **changes}), PrepareSettings(), tmp_path / name, tmp_path)
        return data.data_hash, data.vocabulary_hash

    first = hashes("first")
    assert hashes("same") == first
    moved, renamed = hashes("moved", timestamp=[5, 6, 8]), hashes("renamed", item_id=["x", "z", "x"])
    assert moved[0] != first[0] and moved[1] == first[1]
    assert renamed[0] == first[0] and renamed[1] != first[1]
    assert hashes("number", item_id=[1, 2, 1])[1] != hashes("text", item_id=["1", "2", "1"])[1]


def test_missing_folder(tmp_path):
    with pytest.raises(MissingDatasetError, match="no prepared data set at .*nothing: prepare one"):
        ProcessedDataset.open(tmp_path / "nothing")


@pytest.mark.parametrize("content", [None, "{", "[1]", '{"format": "other"}'])
def test_foreign_folder(tmp_path, content):
    if content is not None:
        (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(ForeignFolderError, match="not a prepared data set of recsys_lab: its? "):
        ProcessedDataset.open(tmp_path)


def test_another_format_version(folder):
    edit_manifest(folder, format_version=0)
    with pytest.raises(
        ProcessedDatasetError, match="format version 0, this recsys_lab reads version 2: prepare it again"
    ):
        ProcessedDataset.open(folder)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("item_ids", np.array([1, 2], np.int32), "item_ids.npy holds int32 of shape"),
        ("item_ids", np.array([1, 2, 1], np.int64), "item_ids.npy holds int64"),
        ("offsets", np.array([0, 2, 4]), "doesn't cover 2 users and 3 events"),
    ],
)
def test_arrays_that_disagree_with_the_manifest(folder, name, values, message):
    np.save(folder / f"{name}.npy", values)
    with pytest.raises(ProcessedDatasetError, match=f"is damaged: .*{message}"):
        ProcessedDataset.open(folder)


def test_a_truncated_or_missing_file(folder):
    path = folder / "timestamps.npy"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ProcessedDatasetError, match="timestamps.npy can't be read"):
        ProcessedDataset.open(folder)
    path.unlink()
    with pytest.raises(ProcessedDatasetError, match="timestamps.npy can't be read"):
        ProcessedDataset.open(folder)


def test_a_truncated_or_missing_table(folder):
    path = folder / "items.parquet"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ProcessedDatasetError, match="items.parquet has .* bytes, the manifest says"):
        ProcessedDataset.open(folder)
    path.unlink()
    with pytest.raises(ProcessedDatasetError, match="items.parquet is missing"):
        ProcessedDataset.open(folder)


def test_an_incomplete_manifest(folder):
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["arrays"]
    path.write_text(json.dumps(manifest))
    with pytest.raises(ProcessedDatasetError, match="manifest.json lacks arrays"):
        ProcessedDataset.open(folder)


@pytest.mark.parametrize("name", ["item_ids.npy", "users.parquet"])
def test_verify_finds_changed_values(folder, name):
    assert ProcessedDataset.open(folder, verify=True).num_events == 3
    content = bytearray((folder / name).read_bytes())
    content[-1 if name.endswith("npy") else 10] ^= 1
    (folder / name).write_bytes(bytes(content))
    for verify in (False, True):
        with pytest.raises(ProcessedDatasetError, match=f"{name} differs from what was prepared"):
            ProcessedDataset.open(folder, verify=verify)


def reads(monkeypatch) -> list[int]:
    """One entry for each array that is hashed from now on."""
    seen = []

    def counted(array):
        seen.append(len(array))
        return array_sha256(array)

    monkeypatch.setattr(integrity, "array_sha256", counted)
    return seen


def test_unchanged_files_are_not_read_again(folder, monkeypatch):
    seen = reads(monkeypatch)
    ProcessedDataset.open(folder)
    assert not seen
    os.utime(folder / "item_ids.npy", ns=(1, 1))
    ProcessedDataset.open(folder)
    assert seen  # it looks otherwise: read once, and a new stamp is kept
    seen.clear()
    ProcessedDataset.open(folder)
    assert not seen


def test_a_copy_is_read_once_per_process_where_no_stamp_can_be_kept(folder, tmp_path, monkeypatch):
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    monkeypatch.setattr(stamp.os, "replace", lambda *_: (_ for _ in ()).throw(OSError(errno.EROFS, "read-only")))
    seen = reads(monkeypatch)
    ProcessedDataset.open(copy)
    assert seen and not list(copy.glob("stamp.json.*"))
    seen.clear()
    ProcessedDataset.open(copy)
    assert not seen


def test_a_set_without_a_stamp_is_checked_and_stamped(folder):
    (folder / "stamp.json").unlink()
    ProcessedDataset.open(folder)
    assert (folder / "stamp.json").is_file()


@pytest.mark.parametrize("stamped", [True, False])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_items": 3}, "item_ids.npy holds 1 to 2, its manifest.json says 1 to 3"),
        ({"num_users": True}, "num_users in its manifest.json is not what"),
        ({"arrays": {"item_ids": 3}}, "arrays in its manifest.json is not what"),
        ({"fields": None}, "fields in its manifest.json is not what"),
    ],
)
def test_an_edited_manifest_is_noticed(folder, change, message, stamped):
    edit_manifest(folder, **change)
    if not stamped:
        (folder / "stamp.json").unlink()
    elif "holds" in message:
        message = "its manifest.json was changed after it was prepared"
    with pytest.raises(ProcessedDatasetError, match=message):
        ProcessedDataset.open(folder)


def test_values_that_do_not_fit_the_counts_are_named(folder):
    data = ProcessedDataset.open(folder)
    arrays = {"item_ids": np.array([1, 9, 1]), "offsets": np.array([0, 2, 2])}
    assert value_faults(data.path, data.manifest, arrays) == [
        "offsets.npy does not ascend: some user has no events, or fewer than none",
        "item_ids.npy holds 1 to 9, its manifest.json says 1 to 2",
    ]


def test_recorded_hash_is_of_the_values(folder):
    data = ProcessedDataset.open(folder)
    for name, about in data.manifest["arrays"].items():
        assert about["sha256"] == array_sha256(np.array(getattr(data, name)))
    assert issubclass(ProcessedDatasetError, RecsysLabError)


def test_an_array_in_another_byte_order_is_damage(small_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "small"
    shutil.copytree(small_folder, folder)
    file = folder / "item_ids.npy"
    file.write_bytes(file.read_bytes().replace(b"<i4", b">i4", 1))
    with pytest.raises(ProcessedDatasetError, match="item_ids.npy"):
        ProcessedDataset.open(folder)
