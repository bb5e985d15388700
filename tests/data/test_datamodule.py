"""SequenceDataModule: the spec, the loaders, and clear errors for data that can't be used."""

from __future__ import annotations

import dataclasses
import math
import shutil
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import polars as pl
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from small_data import made_events, prepared, quiet_trainer

from recsys_lab.config import from_config, to_config
from recsys_lab.contracts import Field
from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.data.prepare.pipeline import PrepareSettings
from recsys_lab.data.split.leave_one_out import GlobalTemporal, LeaveOneOut, SplitResult
from recsys_lab.models import GRU4Rec, NonFiniteLossError, Optimization, Popularity
from recsys_lab.words import RecsysLabError


def model() -> GRU4Rec:
    return GRU4Rec(embedding_dim=8)


def stored(folder: Path, data: SequenceDataModule) -> Path:
    trainer = quiet_trainer(folder, limit_val_batches=0)
    trainer.fit(model(), data)
    trainer.save_checkpoint(folder / "model.ckpt")
    return folder / "model.ckpt"


# -- what it gives -----------------------------------------------------------------------------------------------------


def test_the_spec_and_the_counts_are_of_the_training_part(small_folder: Path) -> None:
    data = SequenceDataModule(str(small_folder), max_length=6)
    events, stop, offsets = data.events, data.split_result.train_stop, data.events.offsets
    training = [p for u in range(len(stop)) for p in range(offsets[u], stop[u])]
    assert data.train_positions.tolist() == training
    expected = np.bincount(events.item_ids[training], minlength=data.spec.num_rows)
    assert data.item_counts.tolist() == expected.tolist() and data.item_counts[0] == 0
    gaps = [
        int(events.timestamps[p + 1] - events.timestamps[p])
        for u in range(len(stop))
        for p in range(offsets[u], stop[u] - 1)
    ]
    assert data.spec.mean_gap_seconds == pytest.approx(np.mean(gaps))
    assert (data.spec.num_users, data.spec.max_length) == (13, 6)
    assert data.spec.fields == (Field("event_type", "event", "categorical", 3 + 2),)
    assert data.spec.num_items == len(data.processed.item_ids_raw) and data.spec.has_timestamps
    again = SequenceDataModule(str(small_folder), max_length=6)
    assert again.spec == data.spec and again.evaluation_settings() == data.evaluation_settings()


def test_evaluation_settings_tell_comparable_runs_from_others(small_folder: Path) -> None:
    def settings(**arguments: Any) -> dict[str, Any]:
        return SequenceDataModule(str(small_folder), **arguments).evaluation_settings()

    base = settings()
    assert base == settings(max_length=3, batch_size=7, seed=5)
    assert base != settings(exclude_seen="none") and base["tie_order"] == "file"
    temporal = settings(split=GlobalTemporal(0.7, 0.7))
    assert temporal["split_hash"] != base["split_hash"] and temporal["test_targets"] > 0
    assert base["not_evaluated"] == {"users with fewer than 3 events (they train only)": 4}


def test_predict_gives_each_user_once_with_all_events(small_folder: Path, tmp_path: Path) -> None:
    data = SequenceDataModule(str(small_folder), max_length=20, eval_batch_size=4)
    users = [u for batch in data.predict_dataloader() for u in batch.user_index.tolist()]
    lengths = {u: n for b in data.predict_dataloader() for u, n in zip(b.user_index.tolist(), b.lengths, strict=True)}
    assert sorted(users) == list(range(13))
    assert [lengths[u] for u in range(13)] == np.diff(data.events.offsets).tolist()
    outputs = quiet_trainer(tmp_path).predict(model(), data)
    assert sum(len(output) for output in outputs) == 13  # type: ignore[arg-type,misc]
    model_with_tables = model()
    quiet_trainer(tmp_path).fit(model_with_tables, data)
    of_a_loader = quiet_trainer(tmp_path).predict(model_with_tables, data.predict_dataloader())
    assert sum(len(output) for output in of_a_loader) == 13  # type: ignore[arg-type,misc]


def test_a_seed_of_its_own_or_that_of_seed_everything(small_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
    assert SequenceDataModule(str(small_folder)).seed == 0
    monkeypatch.setenv("PL_GLOBAL_SEED", "7")
    assert SequenceDataModule(str(small_folder)).seed == 7
    assert SequenceDataModule(str(small_folder), seed=3).seed == 3


def test_configuration_round_trip(small_folder: Path) -> None:
    data = SequenceDataModule(
        str(small_folder), split=GlobalTemporal(target="all"), prepare=PrepareSettings(min_length=2), max_length=9
    )
    config = to_config(data)
    assert to_config(from_config(config)) == config


# -- data that can't be used -------------------------------------------------------------------------------------------


def test_an_unknown_data_set_lists_what_is_prepared(small_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(RecsysLabError, match="ml-1kk'. Did you mean 'ml-100k'. Nothing is prepared in .*--input FILE"):
        SequenceDataModule("ml-1kk", data_dir=str(tmp_path)).prepare_data()
    with pytest.raises(RecsysLabError, match="'smal'. Did you mean 'small'. Prepared in .*: small."):
        SequenceDataModule("smal", data_dir=str(small_folder.parent)).prepare_data()
    with pytest.raises(RecsysLabError, match="data.dataset is empty"):
        SequenceDataModule(" ", data_dir=str(tmp_path)).prepare_data()


def test_a_name_means_the_set_in_data_dir_not_a_folder_beside_the_user(
    small_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "small").mkdir()  # raw logs, say
    monkeypatch.chdir(tmp_path)
    data = SequenceDataModule("small", data_dir=str(small_folder.parent))
    assert data.processed.path == small_folder


def test_a_foreign_folder_is_not_a_data_set(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "todo.txt").write_text("x")
    with pytest.raises(RecsysLabError, match="is not a prepared data set"):
        SequenceDataModule(str(tmp_path / "notes")).prepare_data()


def test_prepare_settings_for_a_set_that_is_prepared_already(small_folder: Path) -> None:
    with pytest.raises(RecsysLabError, match="prepared already"):
        SequenceDataModule(str(small_folder), prepare=PrepareSettings(min_length=3)).prepare_data()


def test_a_set_prepared_into_the_data_folder_goes_by_its_name(tmp_path: Path) -> None:
    prepared(tmp_path / "mine", made_events(), name="mine")
    data = SequenceDataModule("mine", data_dir=str(tmp_path))
    assert data.spec.num_users == 13 and data.spec.dataset == "mine"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"exclude_seen": "all"}, "exclude_seen must be one of 'history', 'window', 'session', 'none', not 'all'"),
        ({"batch_size": 0}, "batch_size must be at least 1, not 0"),
        ({"eval_batch_size": -1}, "eval_batch_size must be at least 1, not -1"),
    ],
)
def test_settings_out_of_range(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(RecsysLabError, match=message):
        SequenceDataModule("synthetic", **arguments)


def test_all_users_are_too_short(tmp_path: Path) -> None:
    data = SequenceDataModule(str(prepared(tmp_path / "short", made_events(shortest=2, longest=2)).path))
    with pytest.raises(RecsysLabError, match="all 13 users are shorter .longest: 2 events"):
        quiet_trainer(tmp_path).fit(model(), data)


def test_nobody_has_two_training_events(tmp_path: Path) -> None:
    data = SequenceDataModule(str(prepared(tmp_path / "three", made_events(shortest=3, longest=3)).path))
    with pytest.raises(RecsysLabError, match="none of the 13 users has two events in the training part"):
        quiet_trainer(tmp_path).fit(model(), data)


def test_a_single_user_trains_and_is_tested(tmp_path: Path) -> None:
    frame = made_events(num_users=2, shortest=6, longest=12).filter(pl.col("user_id") == "u001")
    data = SequenceDataModule(str(prepared(tmp_path / "one", frame).path))
    trainer, network = quiet_trainer(tmp_path), model()
    trainer.fit(network, data)
    assert "test/ndcg@10" in trainer.test(network, data, verbose=False)[0]


def test_a_data_set_without_time_and_event_types(tmp_path: Path) -> None:
    frame = made_events().drop("timestamp", "event_type")
    data = SequenceDataModule(str(prepared(tmp_path / "bare", frame).path))
    assert not data.spec.has_timestamps and data.spec.fields == () and data.spec.mean_gap_seconds == 1.0
    trainer, network = quiet_trainer(tmp_path), model()
    trainer.fit(network, data)
    assert 0 < trainer.test(network, data, verbose=False)[0]["test/auc"] < 1
    temporal = SequenceDataModule(data.dataset, split=GlobalTemporal())
    with pytest.raises(RecsysLabError, match="needs timestamps"):
        quiet_trainer(tmp_path).fit(model(), temporal)


# -- a model and another data set --------------------------------------------------------------------------------------


def test_a_checkpoint_for_another_data_set(small_folder: Path, tmp_path: Path) -> None:
    path = stored(tmp_path, SequenceDataModule(str(small_folder)))
    other = SequenceDataModule(str(prepared(tmp_path / "other", made_events(seed=1, num_items=25), name="other").path))
    message = "belongs to another data set: its item vocabulary is small .*, the data module's is other"
    loaded = GRU4Rec.load_from_checkpoint(path)
    with pytest.raises(RecsysLabError, match=message):
        quiet_trainer(tmp_path).test(loaded, other, verbose=False)
    with pytest.raises(RecsysLabError, match=message):
        quiet_trainer(tmp_path).test(model(), other, ckpt_path=str(path), weights_only=True, verbose=False)
    with pytest.raises(RecsysLabError, match=message):
        quiet_trainer(tmp_path, max_epochs=2).fit(model(), other, ckpt_path=str(path), weights_only=True)
    same = SequenceDataModule(str(small_folder))
    metrics = quiet_trainer(tmp_path).test(model(), same, ckpt_path=str(path), weights_only=True, verbose=False)[0]
    assert metrics == quiet_trainer(tmp_path).test(loaded, same, verbose=False)[0]


def test_a_data_set_that_changed_under_a_run(tmp_path: Path) -> None:
    """Prepared again, with the same items and other events, between a run and its resume."""
    frame = made_events()
    folder = prepared(tmp_path / "set", frame).path
    path = stored(tmp_path, SequenceDataModule(str(folder)))
    changed = frame.with_columns(timestamp=pl.col("timestamp") + 1)
    assert prepared(folder, changed).path == folder
    data = SequenceDataModule(str(folder))
    for run in (
        lambda: quiet_trainer(tmp_path, max_epochs=2).fit(model(), data, ckpt_path=str(path), weights_only=True),
        lambda: quiet_trainer(tmp_path).test(GRU4Rec.load_from_checkpoint(path), data, verbose=False),
    ):
        with pytest.raises(RecsysLabError, match=r"--data.dataset: trained with small \(\w{16}\), asked small"):
            run()


def test_a_data_set_that_is_replaced_or_deleted_while_a_run_reads_it(tmp_path: Path) -> None:
    """The open maps keep the old events: an epoch never mixes two versions."""
    frame = made_events()
    folder = prepared(tmp_path / "set", frame).path
    data = SequenceDataModule(str(folder))
    before = [batch.target_ids.tolist() for batch in data.val_dataloader()]
    prepared(folder, frame.with_columns(item_id=pl.col("item_id") + 1))
    assert [batch.target_ids.tolist() for batch in data.val_dataloader()] == before
    shutil.rmtree(folder)
    assert [batch.target_ids.tolist() for batch in data.val_dataloader()] == before


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "no checkpoint at"), (b"junk", "is not a checkpoint of recsys_lab"), ({}, "not written by")],
)
def test_files_that_are_no_checkpoint_of_ours(content: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "x.ckpt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(RecsysLabError, match=message):
        GRU4Rec.load_from_checkpoint(path)


def test_a_checkpoint_of_another_class(small_folder: Path, tmp_path: Path) -> None:
    path = stored(tmp_path, SequenceDataModule(str(small_folder)))
    with pytest.raises(RecsysLabError, match="GRU4Rec is not a class of the type Popularity"):
        Popularity.load_from_checkpoint(path)
    assert GRU4Rec.load_from_checkpoint(path, optimization=Optimization(lr=0.5)).optimization.lr == 0.5


# -- a loss that is not finite -----------------------------------------------------------------------------------------


class Poison(L.Callback):
    """Puts a NaN into the weights before step `at`."""

    def __init__(self, at: int) -> None:
        self.at = at

    def on_train_batch_start(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        if trainer.global_step == self.at:
            with torch.no_grad():
                pl_module.gru.weight_ih_l0[0, 0] = math.nan


def test_a_nan_loss_stops_names_the_step_and_keeps_the_last_good_checkpoint(small_folder: Path, tmp_path: Path) -> None:
    data = SequenceDataModule(str(small_folder), max_length=4, batch_size=4)
    per_epoch = len(data.train_dataloader())
    keep = ModelCheckpoint(tmp_path, save_last=True)
    trainer = quiet_trainer(tmp_path, max_epochs=3, enable_checkpointing=True, callbacks=[keep, Poison(per_epoch + 2)])
    with pytest.raises(NonFiniteLossError, match=rf"became NaN or infinite at step {per_epoch + 2} \(epoch 1\).*lr"):
        trainer.fit(model(), data)
    kept = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert kept["global_step"] == per_epoch
    assert all(torch.isfinite(value).all() for value in kept["state_dict"].values())
    loaded = GRU4Rec.load_from_checkpoint(tmp_path / "last.ckpt")
    assert dataclasses.replace(loaded.spec, split="") == dataclasses.replace(data.spec, split="")


# -- retrained: the validation part trains too -------------------------------------------------------------------------


@pytest.mark.parametrize("split", [None, GlobalTemporal(0.7, 0.7), GlobalTemporal(0.7, validation="last_train_item")])
def test_retrained_counts_and_trains_on_the_validation_part(small_folder: Path, split: Any) -> None:
    first, final = (SequenceDataModule(str(small_folder), split=split, retrained=r) for r in (False, True))
    val = first.split_result.val.position
    added = set(final.train_positions.tolist()) - set(first.train_positions.tolist())
    assert set(val.tolist()) <= added and set(first.train_positions.tolist()) < set(final.train_positions.tolist())
    assert not set(final.split_result.test.position.tolist()) & set(final.train_positions.tolist())
    assert final.item_counts.sum() == len(final.train_positions)
    assert final.val_dataloader() == [] and len(final.train_windows) >= len(first.train_windows)
    same = ("split", "split_hash", "val_targets", "test_targets")
    told = [{name: data.evaluation_settings()[name] for name in same} for data in (first, final)]
    assert told[0] == told[1] and final.evaluation_settings()["retrained"] is True


def test_a_split_of_ones_own_says_what_it_can_not_do(small_folder: Path) -> None:
    class Own(LeaveOneOut):
        def apply(self, offsets: np.ndarray, timestamps: np.ndarray | None) -> SplitResult:
            return dataclasses.replace(super().apply(offsets, timestamps), final=None)

    assert len(SequenceDataModule(str(small_folder), split=Own()).split_result.test)
    with pytest.raises(RecsysLabError, match="Own does not say what trains when validation trains too"):
        _ = SequenceDataModule(str(small_folder), split=Own(), retrained=True).split_result


def test_the_warning_of_a_split_is_logged(small_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = SequenceDataModule(str(small_folder), split=GlobalTemporal(0.7, 0.7, target="first"))
    data.setup()
    assert any(r.levelname == "WARNING" and "-0.37" in r.getMessage() for r in caplog.records)
    assert "-0.37" in data.evaluation_settings()["split_warning"]
