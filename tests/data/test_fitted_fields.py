"""What is fitted on the training part, how batches hold it, and that a checkpoint gives it back."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_fields import COLOURS, WithFields
from small_data import made_events, prepared, quiet_trainer

from recsys_lab.contracts import Batch, Field
from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.data.fitting import fit_fields as module
from recsys_lab.data.fitting import stored_values
from recsys_lab.data.fitting.fitted_fields import FittedField, FittedFields
from recsys_lab.data.fitting.packed_values import digest, pack, unpack
from recsys_lab.data.fitting.stored_values import training_events
from recsys_lab.data.fitting.vocabulary import read_vocabulary
from recsys_lab.data.split.leave_one_out import GlobalTemporal
from recsys_lab.models import GRU4Rec
from recsys_lab.models.checkpoint import check_vocabulary
from recsys_lab.words import RecsysLabError

ALL = ["price", "colour", "item.tags", "item.image", "item.price", "user.age"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared(tmp_path_factory.mktemp("fields") / "plain", made_events(event_types=1)).path


def fielded(folder: Path, fields: Any = ALL, **settings: Any) -> SequenceDataModule:
    data = SequenceDataModule(str(folder), fields=fields, max_length=6, eval_batch_size=5, **settings)
    data.__dict__["processed"] = WithFields(data.processed)
    return data


def training_mask(data: SequenceDataModule) -> np.ndarray:
    mask, offsets = np.zeros(data.processed.num_events, dtype=bool), data.processed.offsets
    for user, stop in enumerate(data.split_result.train_stop):
        mask[offsets[user] : stop] = True
    return mask


def test_fields_are_fitted_on_the_training_part_alone(folder: Path) -> None:
    data = fielded(folder)
    raw, trains = data.processed.raw, training_mask(data)
    assert [one.key for one in data.fitted_fields] == ALL, "in the order of the setting"
    price = raw["price"].to_numpy()[trains]
    assert data.fitted_fields["price"].mean == pytest.approx(np.nanmean(price.astype(float)), rel=1e-6)
    assert data.fitted_fields["price"].std == pytest.approx(np.nanstd(price.astype(float)), rel=1e-6)
    known = set(raw["colour"].filter(trains).drop_nulls())
    assert data.fitted_fields["colour"].values.to_list() == [c for c in COLOURS if c in known] == COLOURS[:3]
    has_events = np.isin(np.arange(1, data.processed.num_items + 1), np.asarray(data.processed.item_ids)[trains])
    assert has_events.tolist() == (data.item_counts[1:] > 0).tolist() and not has_events.all()
    item_price = raw["item.price"].to_numpy()[has_events].astype(float)
    assert data.fitted_fields["item.price"].mean == pytest.approx(item_price.mean(), rel=1e-6)
    assert data.spec.fields == (
        Field("price", "event", "numeric", known_at="query"),
        Field("colour", "event", "categorical", 5),
        Field("tags", "item", "multi", 6, data.fitted_fields["item.tags"].width),
        Field("image", "item", "vector", 5),
        Field("price", "item", "numeric"),
        Field("age", "user", "numeric"),
    )


def test_what_is_not_in_the_training_part_changes_nothing(folder: Path) -> None:
    data, other = fielded(folder), fielded(folder)
    array = other.processed._arrays["price"]
    array[~training_mask(other)] = 1e6
    assert data.fitted_fields.hash == other.fitted_fields.hash
    assert data.spec.training_hash != other.spec.training_hash, "the values of the data are others"
    array[0] += 1
    assert fielded(folder).fitted_fields.hash == data.fitted_fields.hash
    changed = fielded(folder)
    changed.processed._arrays["price"][0] += 1
    assert changed.fitted_fields.hash != data.fitted_fields.hash
    assert changed.spec.training_hash != data.spec.training_hash


def of_raw(data: SequenceDataModule, key: str, rows: Any) -> torch.Tensor:
    return data.fitted_fields[key].tensor(data.processed.raw[key].gather(rows))


def check_event_fields(data: SequenceDataModule, batch: Batch, row: int, start: int) -> None:
    length = int(batch.lengths[row])
    for name in ("price", "colour"):
        here = batch.event[name][row]
        assert torch.equal(here[:length], of_raw(data, name, range(start, start + length)))
        assert not here[length:].any(), "0 at padding"
    assert torch.equal(batch.user["age"][row], of_raw(data, "user.age", [int(batch.user_index[row])])[0])


@pytest.mark.parametrize("mode", ["all_positions", "last_position"])
def test_training_batches_hold_the_fields_of_events_targets_and_users(folder: Path, mode: Any) -> None:
    data = fielded(folder, training_mode=mode)
    loader = data.train_dataloader()
    seen = 0
    for windows in loader.sampler:
        batch = loader.dataset[windows]
        assert set(batch.event) == {"price", "colour"} and set(batch.target) == {"price"} and set(batch.user) == {"age"}
        for row, window in enumerate(windows):
            start = int(data.train_windows.start[window])
            check_event_fields(data, batch, row, start)
            for column in range(batch.item_ids.shape[1]):
                has_target = batch.target_ids[row, column] != 0
                expected = of_raw(data, "price", [start + column + 1])[0] if has_target else torch.zeros(2)
                assert torch.equal(batch.target["price"][row, column], expected)
            seen += 1
    assert seen == len(data.train_windows)


def test_evaluation_batches_hold_the_query_fields_of_the_target_and_predictions_none(folder: Path) -> None:
    data = fielded(folder)
    for batch in data.test_dataloader():
        assert batch.target_event is not None
        assert torch.equal(batch.target["price"], of_raw(data, "price", batch.target_event.numpy()))
        for row in range(len(batch)):
            check_event_fields(data, batch, row, int(batch.target_event[row]) - int(batch.lengths[row]))
    assert all(batch.target == {} and batch.event and batch.user for batch in data.predict_dataloader())


def test_item_fields_are_tensors_over_the_catalogue(folder: Path) -> None:
    data = fielded(folder)
    assert set(data.item_fields) == {"tags", "image", "price"}
    everything = range(data.processed.num_items)
    for name, tensor in data.item_fields.items():
        assert len(tensor) == data.spec.num_rows and not tensor[0].any(), "row 0 is padding"
        expected = of_raw(data, f"item.{name}", everything)
        assert torch.equal(tensor[1:].sort(dim=1).values, expected.sort(dim=1).values) or name != "tags"
        assert torch.equal(tensor[1:, : expected.shape[1]], expected)
    tags, raw = data.item_fields["tags"], data.processed.raw["item.tags"].to_list()
    assert [row.count_nonzero() for row in tags[1:]] == [max(len(own), 1) for own in raw]
    assert all((tags[i + 1].tolist()[0] == 1) == (raw[i] == []) for i in everything), "1 = missing"


def test_a_value_that_the_training_part_lacks_is_row_zero_and_a_missing_one_is_row_one(folder: Path) -> None:
    colour = fielded(folder).fitted_fields["colour"]
    asked = pl.Series(["blue", None, "never trained", "no such colour", "red"])
    assert colour.tensor(asked).tolist() == [4, 1, 0, 0, 2]
    data = fielded(folder)
    targets = data.split_result.test.position
    assert of_raw(data, "colour", targets).tolist() == [0] * len(targets)


def test_several_values_of_which_some_are_unknown() -> None:
    field = FittedField("tags", "item", "multi", values=pl.Series(["a", "b"]), width=3)
    asked = pl.Series([["x", "b", "a"], [], None, ["x"], ["a", "y"]])
    assert field.tensor(asked).tolist() == [[3, 2, 0], [1, 0, 0], [1, 0, 0], [0, 0, 0], [2, 0, 0]]


def test_numbers_are_standardised_and_a_constant_one_is_only_centred() -> None:
    field = FittedField("price", "event", "numeric", mean=4.0, std=2.0)
    assert field.tensor(pl.Series([6.0, None, float("nan"), 4.0])).tolist() == [[1, 0], [0, 1], [0, 1], [0, 0]]
    assert module._mean_and_std([np.full(5, 0.1, np.float32), np.full(7, 0.1, np.float32)])[1] == 1.0
    assert module._mean_and_std([np.full(3, np.nan, np.float32)]) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("kind", "values"), [("numeric", ["much"]), ("vector", [[1.0], [1.0, 2.0]]), ("multi", ["no list"])]
)
def test_what_can_not_be_a_value_is_one_line(kind: Any, values: list[Any]) -> None:
    with pytest.raises(RecsysLabError, match=rf"can't be values of the {kind} field 'item.x'") as error:
        FittedField("x", "item", kind, dimension=2).tensor(pl.Series(values))
    assert "\n" not in str(error.value)


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_training_events_in_pieces(data: st.DataObject) -> None:
    lengths = data.draw(st.lists(st.integers(0, 6), min_size=1, max_size=8))
    offsets = np.cumsum([0, *lengths])
    stop = np.array([data.draw(st.integers(int(a), int(b))) for a, b in zip(offsets, offsets[1:], strict=False)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stored_values, "AT_ONCE", data.draw(st.sampled_from([1, 3, 100])))
        found = [p for piece, trains in training_events(offsets, stop) for p in np.flatnonzero(trains) + piece.start]
    assert found == [p for a, b in zip(offsets, stop, strict=False) for p in range(a, b)]


@pytest.mark.parametrize("at_once", [3, 1 << 22])
def test_a_column_of_events_that_is_of_items_or_users_gives_the_last_training_value(
    folder: Path, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored_values, "AT_ONCE", at_once)
    data = fielded(folder, ["item.brand", "item.labels", "user.mood"])
    stored, trains = data.processed, training_mask(data)
    times, brand, labels, mood = {}, {}, {}, {}
    bounds = stored.event_offsets("item.labels")
    for p in np.flatnonzero(trains):
        user, item = int(np.searchsorted(stored.offsets, p, side="right")) - 1, int(stored.item_ids[p])
        code, own = stored.event_arrays["item.brand"][p], stored.event_arrays["item.labels"][bounds[p] : bounds[p + 1]]
        if code and stored.timestamps[p] >= times.get(item, -1):
            times[item], brand[item] = stored.timestamps[p], code
        if len(own) and stored.timestamps[p] >= times.get(-item, -1):
            times[-item], labels[item] = stored.timestamps[p], own.tolist()
        if not np.isnan(stored.event_arrays["user.mood"][p]):
            mood[user] = stored.event_arrays["user.mood"][p]
    catalogue = range(1, data.spec.num_rows)
    known = sorted(set(brand.values()))
    assert data.fitted_fields["item.brand"].values.to_list() == ["abcd"[code - 1] for code in known]
    expected = [known.index(brand[i]) + 2 if i in brand else 1 for i in catalogue]
    assert data.item_fields["brand"].tolist() == [0, *expected]
    rows = [[code + 1 for code in labels[i]] if i in labels else [1] for i in catalogue]
    assert [[row for row in item if row] for item in data.item_fields["labels"][1:].tolist()] == rows
    mean, std = np.mean(list(mood.values())), np.std(list(mood.values()))
    batch = data.predict_dataloader().dataset[list(range(13))]
    for row, user in enumerate(batch.user_index.tolist()):
        value = (mood[user] - mean) / std if user in mood else 0.0
        assert batch.user["mood"][row].tolist() == pytest.approx([value, float(user not in mood)], abs=1e-5)


def test_what_was_shown_after_the_training_part_is_not_fitted(folder: Path) -> None:
    for split in (None, GlobalTemporal(0.6, 0.6)):
        data = fielded(folder, ["shown.place"], split=split)
        if split is None:  # users who train only have no end: what they were shown late trains, too
            users = int((data.split_result.train_stop == np.asarray(data.processed.offsets)[1:]).sum())
            places = [1, 2, 3] * 13 + [700, 800, 900] * users
        else:
            times = data.processed.arrays["shown/timestamps"]
            assert (times < data.split_result.cut_time).sum() < 13
            places = [1, 2, 3] * int((times < data.split_result.cut_time).sum())
        assert data.fitted_fields["shown.place"].mean == pytest.approx(np.mean(places), rel=1e-6)


@pytest.mark.parametrize("trains", [True, False])
def test_batches_of_impressions_have_the_history_before_them(folder: Path, trains: bool) -> None:
    data = fielded(folder, ["shown.place", "price"])
    stored, dataset = data.processed, data.shown_dataset(trains)
    arrays, expected, without = stored.arrays, [], 0
    arrays["shown/timestamps"][::2] += 2000 * (np.arange(13) % 3)  # some have events before their first impression
    dataset = data.shown_dataset(trains)
    stop = data.split_result.train_stop
    for i, (user, moment) in enumerate(zip(arrays["shown/users"], arrays["shown/timestamps"], strict=True)):
        begin, end = int(stored.offsets[user]), int(stored.offsets[user + 1])
        is_training = stop[user] == end or moment < stored.timestamps[stop[user]]
        if is_training != trains:
            continue
        history = [p for p in range(begin, end) if stored.timestamps[p] < moment][-6:]
        without += not history
        if history:
            expected.append((i, history))
    assert len(dataset) == len(expected) > 0 and dataset.num_without_history == without
    batch = dataset[list(range(len(dataset)))]
    assert batch.shown_ids is not None and batch.labels is not None and batch.query_time is not None
    for row, (i, history) in enumerate(expected):
        length = int(batch.lengths[row])
        assert batch.item_ids[row, :length].tolist() == stored.item_ids[history].tolist()
        assert torch.equal(batch.event["price"][row, :length], of_raw(data, "price", history))
        own = slice(3 * i, 3 * i + 3)
        assert batch.shown_ids[row].tolist() == arrays["shown/item_ids"][own].tolist()
        assert batch.labels[row].tolist() == [1, 0, 0] and batch.query_time[row] == arrays["shown/timestamps"][i]
        place = data.fitted_fields["shown.place"].tensor(pl.Series(stored._arrays["shown.place"][own]))
        assert torch.equal(batch.shown["place"][row], place)
    assert batch.target == {} and not batch.target_ids.any()


def test_data_without_impressions_says_so(small_folder: Path) -> None:
    with pytest.raises(RecsysLabError, match="'small' has no impressions: prepare it with --impressions FILE"):
        SequenceDataModule(str(small_folder)).shown_dataset()


# -- the setting -------------------------------------------------------------------------------------------------------


def test_without_a_setting_the_event_type_alone_is_fed(folder: Path, small_folder: Path) -> None:
    assert fielded(folder, None).spec.fields == () and "fields" not in fielded(folder, None).spec.training
    with_types = SequenceDataModule(str(small_folder))
    assert with_types.spec.fields == (Field("event_type", "event", "categorical", 5),)
    assert SequenceDataModule(str(small_folder), fields=[]).spec.fields == ()
    everything = [one.key for one in fielded(folder, "all").fitted_fields]
    assert set(ALL) < set(everything) == {*fielded(folder).processed.fields} - {"note"}, "but texts"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (["colur"], r"unknown field 'colur'; known: colour, .*user.mood. Did you mean 'colour'\?"),
        (["age"], r"Did you mean 'user.age'\?"),
        (["user.price"], r"unknown field 'user.price'.*Did you mean 'price'\?"),
        (["x"], r"unknown field 'x'; known: [^?]*$"),
        (["colour", "price", "colour"], "names 'colour' twice"),
        (["note"], "'note' is text, which is kept for people .* --fields note=categorical"),
    ],
)
def test_a_wrong_name_is_one_line(folder: Path, fields: list[str], message: str) -> None:
    with pytest.raises(RecsysLabError, match=message) as error:
        _ = fielded(folder, fields).spec
    assert "\n" not in str(error.value)


def test_other_fields_are_another_training(folder: Path) -> None:
    hashes = [fielded(folder, fields).spec.training_hash for fields in (None, ["price"], ["colour"], ["user.age"])]
    assert len(set(hashes)) == 4
    cut = GlobalTemporal(0.6, 0.6)
    assert fielded(folder, split=cut).fitted_fields.hash != fielded(folder).fitted_fields.hash


# -- in a checkpoint ---------------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(st.one_of(st.lists(st.integers(-(2**63), 2**63 - 1)), st.lists(st.text(max_size=5))))
def test_packed_values_come_back(values: list[Any]) -> None:
    series = pl.Series(values, dtype=pl.Int64 if values and isinstance(values[0], int) else pl.String)
    assert unpack(pack(series)).equals(series) and digest(series) == digest(unpack(pack(series)))


def test_the_vocabulary_comes_back_from_a_checkpoint_and_holds_no_user(folder: Path) -> None:
    data, file = fielded(folder), io.BytesIO()
    torch.save({"vocabulary": data.vocabulary()}, file)
    assert b"u000" not in file.getvalue(), "no user id"
    file.seek(0)
    found = read_vocabulary(torch.load(file, weights_only=True)["vocabulary"])
    assert found.item_ids.equals(data.processed.item_ids_raw)
    assert found.fields.hash == data.fitted_fields.hash and found.fields.fields == data.spec.fields
    for key in ALL:
        raw = data.processed.raw[key]
        assert torch.equal(found.fields[key].tensor(raw), data.fitted_fields[key].tensor(raw))


def test_a_vocabulary_that_was_changed_is_refused(folder: Path) -> None:
    held = fielded(folder).vocabulary()
    held["fields"]["fields"][0]["mean"] += 1
    with pytest.raises(RecsysLabError, match="the fitted fields are damaged"):
        read_vocabulary(held)
    with pytest.raises(RecsysLabError, match="has format 99"):
        read_vocabulary(fielded(folder).vocabulary() | {"version": 99})
    with pytest.raises(RecsysLabError, match="vocabulary of this checkpoint is damaged"):
        read_vocabulary({"version": 1})


def test_fields_that_were_fitted_elsewhere_give_the_same_rows() -> None:
    field = FittedField("colour", "event", "categorical", values=pl.Series(["red", "blue"]))
    assert field.table_row(pl.Series(["blue", "green", "red"])).tolist() == [1, 3, 0, 2]
    numbers = FittedField("size", "event", "categorical", values=pl.Series([7, 9]))
    assert numbers.rows(pl.Series(["9", "8", None])).tolist() == [3, 0, 1], (
        "numbers as texts, as a caller may send them"
    )
    assert dataclasses.replace(field, name="other").key == "other"
    assert FittedFields((field,)).hash != FittedFields((numbers,)).hash


def test_fields_that_were_fitted_on_another_training_part_are_taken_from_its_vocabulary(folder: Path) -> None:
    trained, asked = fielded(folder), fielded(folder, split=GlobalTemporal(0.5, 0.5))
    before = asked.spec.training
    assert before["fields_hash"] != trained.spec.training["fields_hash"]
    asked.take_vocabulary(trained.vocabulary())
    assert asked.fitted_fields.hash == trained.fitted_fields.hash and asked.spec.fields == trained.spec.fields
    after = asked.spec.training
    assert after == before | {"fields": trained.spec.training["fields"], "fields_hash": trained.fitted_fields.hash}
    check_vocabulary(trained.spec, asked.spec)
    batch = asked.predict_dataloader().dataset[[0]]
    start = int(asked.processed.offsets[1]) - int(batch.lengths[0])
    own = asked.processed.raw["price"][start : start + int(batch.lengths[0])]
    assert torch.equal(batch.event["price"][0], trained.fitted_fields["price"].tensor(own))
    other = fielded(folder, ["price"])
    hash_before = other.fitted_fields.hash
    other.take_vocabulary(trained.vocabulary())
    assert other.fitted_fields.hash == hash_before, "other fields are asked for"


def test_a_model_is_not_tested_with_rows_of_another_training_part(folder: Path, tmp_path: Path) -> None:
    trained, asked = fielded(folder, ["price"]), fielded(folder, ["price"], split=GlobalTemporal(0.5, 0.5))
    assert trained.spec.fields == asked.spec.fields, "the sizes say nothing"
    model = GRU4Rec(embedding_dim=8)
    model.allow_other_training = True
    trainer = quiet_trainer(tmp_path)
    trainer.fit(model, trained)
    with pytest.raises(RecsysLabError, match="fitted on another training part, .* test it from its checkpoint"):
        quiet_trainer(tmp_path).test(model, asked, verbose=False)
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    loaded = GRU4Rec(embedding_dim=8)
    loaded.allow_other_training = True
    quiet_trainer(tmp_path).test(loaded, asked, ckpt_path=tmp_path / "model.ckpt", verbose=False)
    assert loaded.trained_on is not None and "split" in loaded.trained_on["description"]
    assert asked.fitted_fields.hash == trained.fitted_fields.hash
