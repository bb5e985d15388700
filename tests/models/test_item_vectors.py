"""Vectors of the user's own: read, matched by raw ids, used in each mode, and in the checkpoint."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from found_models import small
from small_data import made_events, prepared, quiet_trainer

from recsys_lab.cli import main
from recsys_lab.config import to_config
from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.models import GRU4Rec, NextItemModule, SASRec
from recsys_lab.models.system import model_settings
from recsys_lab.models.vector_files import matched
from recsys_lab.models.vector_preprocessing import preprocessed
from recsys_lab.words import RecsysLabError

MODES = ["frozen", "init", "delta", "concat"]
WIDTH = 16


def write(path: Path, ids: list[Any], vectors: Any = None, **columns: Any) -> Path:
    if vectors is None:
        vectors = np.random.default_rng(0).normal(size=(len(ids), WIDTH)).astype(np.float32).tolist()
    pl.DataFrame({"item_id": ids, "vector": vectors, **columns}).write_parquet(path)
    return path


@pytest.fixture
def data(tmp_path: Path) -> SequenceDataModule:
    return SequenceDataModule(str(prepared(tmp_path / "d", made_events(num_users=40)).path), max_length=8, batch_size=8)


def test_what_is_said_of_vectors_that_are_not_there_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "recsys_lab"):
        SASRec(item_vectors_mode="delta", item_vectors="v.parquet")
        assert not caplog.records
        SASRec(item_vectors_mode="delta", item_vectors_preprocessing="zca")
    told = [record.getMessage() for record in caplog.records]
    assert told[0] == "--model.item_vectors_mode delta changes nothing without --model.item_vectors FILE"
    assert told[1].startswith("--model.item_vectors_preprocessing zca") and len(told) == 2


def test_matched_by_raw_ids(tmp_path: Path) -> None:
    file = write(tmp_path / "v.parquet", ["30", "10", "99"], [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    vectors, has = matched(file, pl.Series([10, 20, 30]))
    assert has.tolist() == [False, True, False, True]
    assert vectors.tolist() == [[0, 0], [3, 4], [0, 0], [1, 2]]
    as_floats = write(tmp_path / "floats.parquet", [30.0, 10.0, 99.0], [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    assert torch.equal(matched(as_floats, pl.Series([10, 20, 30]))[0], vectors), "as pandas writes whole numbers"
    with pytest.raises(RecsysLabError, match="none of its 3 ids is an item.*'30'.*'a'"):
        matched(file, pl.Series(["a", "b"]))


@pytest.mark.parametrize("mode", MODES)
def test_a_mode_trains_is_stored_and_comes_back_without_the_file(
    mode: Any, data: SequenceDataModule, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    raw = data.processed.item_ids_raw.to_list()
    file = write(tmp_path / "v.parquet", raw[:-2])
    caplog.set_level(logging.INFO)
    model = small(SASRec, item_vectors=str(file), item_vectors_mode=mode, item_vectors_missing="learn")
    trainer = quiet_trainer(tmp_path, max_epochs=2)
    trainer.fit(model, data)
    assert f"{len(raw) - 2} of {len(raw)} items have a vector there (2 have none)" in caplog.text
    own = [part for part in model.embedding.items.parts]
    assert len(own) == (mode != "init")
    if own:
        expected = torch.tensor(pl.read_parquet(file)["vector"].to_list())
        assert torch.equal(own[0].vectors[1:-2], expected), "they are not trained"
        assert own[0].has_vector.sum() == len(raw) - 2 and not own[0].vectors[[0, -1, -2]].any()
    file.unlink()
    trainer.save_checkpoint(tmp_path / "m.ckpt")
    assert to_config(model)["init_args"]["item_vectors_width"] == WIDTH
    loaded = NextItemModule.load_from_checkpoint(tmp_path / "m.ckpt")
    batch = next(iter(data.test_dataloader()))
    with torch.no_grad():
        before, after = model.eval().score(model.query(batch)), loaded.score(loaded.query(batch))
    assert torch.equal(before, after)
    tested = quiet_trainer(tmp_path).test(type(model)(**loaded._init_args), data, ckpt_path=str(tmp_path / "m.ckpt"))
    assert 0 < tested[0]["test/auc"] < 1


@pytest.mark.parametrize("mode", MODES)
def test_what_a_mode_is_at_first(mode: Any, data: SequenceDataModule, tmp_path: Path) -> None:
    raw = data.processed.item_ids_raw.to_list()
    file = write(tmp_path / "v.parquet", raw[:-1])
    vectors = torch.cat([torch.zeros(1, WIDTH), torch.tensor(pl.read_parquet(file)["vector"].to_list())])
    model = small(SASRec, item_vectors=str(file), item_vectors_mode=mode, item_vectors_missing="learn")
    quiet_trainer(tmp_path, limit_train_batches=0, limit_val_batches=0).test(model, data, verbose=False)
    table = model.embedding.items
    rows, last = table(torch.arange(len(raw) + 1)).detach(), len(raw)
    assert not rows[0].any() and rows[last].any()
    if mode == "init":
        assert torch.equal(rows[1:last], vectors[1:])
        return
    project = table.parts[0].project.weight.detach()
    if mode == "concat":
        side = torch.cat([table.weight, torch.cat([vectors, torch.zeros(1, WIDTH)])], dim=1)
        torch.testing.assert_close(rows, (side @ project.T).detach())
        return
    torch.testing.assert_close(rows[1:last], vectors[1:] @ project.T)
    assert torch.equal(rows[last], table.weight[last]), "an item without a vector keeps that of its id"
    assert (not table.weight[1:last].any()) is (mode == "delta")


@pytest.mark.parametrize(
    ("frame", "text"),
    [
        (None, "no such file"),
        (pl.DataFrame({"item": [1], "vector": [[1.0]]}), "must have a column item_id"),
        (pl.DataFrame({"item_id": [1], "a": [[1.0]], "b": [[1.0]]}), "one column of lists"),
        (
            pl.DataFrame({"item_id": [1, 2, 3], "v": [[1.0], [1.0, 2.0], [3.0]]}),
            "not of one length.*most have 1 n.*item_id 2",
        ),
        (pl.DataFrame({"item_id": [1, 2], "v": [[1.0], None]}), "missing, empty.*item_id 2"),
        (pl.DataFrame({"item_id": [1, None], "v": [[1.0], [2.0]]}), "1 of 2 rows have no item_id"),
        (pl.DataFrame({"item_id": [1, 1], "v": [[1.0], [2.0]]}), "only once, and 1 is in 2 rows"),
        (
            pl.DataFrame({"item_id": [1, 2], "v": [[1.0], [float("nan")]]}),
            "1 of 2 vectors hold .* no finite number.*item_id 2",
        ),
    ],
)
def test_a_file_that_can_not_be_used(frame: Any, text: str, data: SequenceDataModule, tmp_path: Path) -> None:
    file = tmp_path / "v.parquet"
    if frame is not None:
        frame.write_parquet(file)
    with pytest.raises(RecsysLabError, match=f"--model.item_vectors .*{text}"):
        quiet_trainer(tmp_path).fit(small(GRU4Rec, item_vectors=str(file)), data)


def test_a_file_must_have_every_item_unless_they_may_learn(data: SequenceDataModule, tmp_path: Path) -> None:
    raw = data.processed.item_ids_raw.to_list()
    file = write(tmp_path / "v.parquet", raw[:-2])
    trainer = quiet_trainer(tmp_path)
    with pytest.raises(RecsysLabError, match=f"has no vector for 2 of {len(raw)} items; the first is {raw[-2]}.*learn"):
        trainer.fit(small(GRU4Rec, item_vectors=str(file)), data)


@pytest.mark.parametrize("how", ["center", "pca(8)", "zca", "unit_norm"])
def test_vectors_are_preprocessed_before_they_are_in_the_model(
    how: str, data: SequenceDataModule, tmp_path: Path
) -> None:
    file = write(tmp_path / "v.parquet", data.processed.item_ids_raw.to_list())
    model = small(SASRec, item_vectors=str(file), item_vectors_preprocessing=how)
    trainer = quiet_trainer(tmp_path)
    trainer.fit(model, data)
    own, (vectors, has) = model.embedding.items.parts[0], matched(file, data.processed.item_ids_raw)
    assert torch.equal(own.vectors, preprocessed(vectors, has, data.item_counts > 0, how))
    trainer.save_checkpoint(tmp_path / "m.ckpt")
    file.unlink()
    loaded = NextItemModule.load_from_checkpoint(tmp_path / "m.ckpt")
    assert torch.equal(loaded.embedding.items.parts[0].vectors, own.vectors)


def test_init_needs_the_width_of_the_table(data: SequenceDataModule, tmp_path: Path) -> None:
    file = write(tmp_path / "v.parquet", data.processed.item_ids_raw.to_list())
    model = small(SASRec, embedding_dim=8, item_vectors=str(file), item_vectors_mode="init")
    with pytest.raises(RecsysLabError, match="--model.embedding_dim 16, or --model.item_vectors_mode delta"):
        quiet_trainer(tmp_path).fit(model, data)


def test_a_model_without_them_is_the_system_it_was() -> None:
    assert not [name for name in model_settings(SASRec())["init_args"] if "vectors" in name or "fields" in name]
    assert model_settings(SASRec(item_vectors="v.parquet"))["init_args"]["item_vectors"] == "v.parquet"


def test_the_flag_on_the_command_line(
    data: SequenceDataModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "v.parquet", data.processed.item_ids_raw.to_list())
    line = ["--model", "GRU4Rec", "--model.embedding_dim", "8", "--model.item_vectors", "v.parquet"]
    line += ["--model.item_vectors_mode", "delta", "--data.dataset", str(data.processed.path), "--run.folder", "run"]
    quiet = ["--trainer.max_epochs", "1", "--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
    assert main(["fit", *line, *quiet]) == 0
    (tmp_path / "v.parquet").unlink()
    assert main(["test", "run", "--ckpt_path", "run/checkpoints/best.ckpt"]) == 0
