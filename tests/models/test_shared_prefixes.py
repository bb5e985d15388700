"""Target `all`: one encoder row answers for all targets whose windows begin with the same event, exactly."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from found_models import ENCODERS, VARIANTS, small
from small_data import quiet_trainer

from recsys_lab.contracts import Batch
from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.data.split.leave_one_out import GlobalTemporal
from recsys_lab.evaluation.callback import RankingEvaluation
from recsys_lab.models import NextItemModule, SASRec

MAX_LENGTH = 6  # histories of 2 to 14 events: some reach further back than the window
ROW_BY_ROW = {
    *(
        "SASRec-positions-from-end",
        "LSTMAttention-relative",
        "LSTMAttention-query-time",
        "LiGR",
        "LiGR-no-gate",
        "HSTU-query-time",
    ),
    *("BERT4Rec", "BERT4Rec-positions-from-end", "BSARec", "FMLPRec"),
}


def made(name: str, folder: Path, **settings: Any) -> tuple[NextItemModule, SequenceDataModule]:
    cls, arguments = VARIANTS[name]
    split = GlobalTemporal(0.4, 0.5, target="all")
    data = SequenceDataModule(str(folder), split=split, max_length=MAX_LENGTH, eval_batch_size=16, **settings)
    torch.manual_seed(0)
    model = small(cls, **arguments)
    model._build(data.spec)
    for parameter in model.parameters():  # biases and norms start at 0 and 1, which would hide a forgotten one
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model.eval(), data


def one_by_one(batch: Batch) -> Batch:
    return dataclasses.replace(batch, prefix_of=None)


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Rows of each call of SASRec's encoder."""
    rows: list[int] = []
    encode = SASRec.encode
    monkeypatch.setattr(SASRec, "encode", lambda self, batch: rows.append(len(batch)) or encode(self, batch))
    yield rows


@pytest.mark.parametrize("name", VARIANTS)
def test_states_equal_those_of_one_target_at_a_time(name: str, small_folder: Path) -> None:
    model, data = made(name, small_folder)
    shared = 0
    assert model.shares_prefixes is (name not in ROW_BY_ROW)
    for batch in data.test_dataloader():
        shared += batch.prefix_of is not None
        with torch.no_grad():
            together, alone = model.query(batch), model.query(one_by_one(batch))
        torch.testing.assert_close(together, alone, rtol=0, atol=1e-6)
    assert shared > 1


@pytest.mark.parametrize("name", sorted(set(VARIANTS) - ROW_BY_ROW))
def test_only_the_longest_windows_are_encoded(name: str, small_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = made(name, small_folder)
    rows, encode = [], model.encode
    monkeypatch.setattr(model, "encode", lambda batch: rows.append(len(batch)) or encode(batch))
    batches = [batch for batch in data.test_dataloader() if batch.prefix_of is not None]
    with torch.no_grad():
        for batch in batches:
            model.query(batch)
    events, split = data.events, data.split_result.test
    starts = np.maximum(split.position - MAX_LENGTH, events.offsets[:-1][split.user_index])
    by_hand = len(set(starts.tolist()))  # a window of its own for each target whose history is longer than the window
    targets = sum(len(batch) for batch in data.test_dataloader())
    assert targets == len(split) > 1.5 * by_hand
    single = targets - sum(len(batch) for batch in batches)  # in batches without a prefix
    assert sum(rows) == by_hand - single


def test_models_that_can_not_share_encode_every_row(
    small_folder: Path, encoded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, data = made("SASRec-positions-from-end", small_folder)
    rows, encode_last = [], model.encode_last
    monkeypatch.setattr(model, "encode_last", lambda batch: rows.append(len(batch)) or encode_last(batch))
    batch = next(batch for batch in data.test_dataloader() if batch.prefix_of is not None)
    model.query(batch)
    assert rows == [len(batch)] and not encoded


def test_a_single_target_keeps_sasrecs_short_cut(small_folder: Path, encoded: list[int]) -> None:
    data = SequenceDataModule(str(small_folder), max_length=MAX_LENGTH)
    model = SASRec(embedding_dim=8)
    model._build(data.spec)
    for batch in data.test_dataloader():
        assert batch.prefix_of is None
        model.query(batch)
    assert not encoded


@pytest.mark.parametrize(  # of every variant the states, above
    "name",
    [
        name if name in ("SASRec", "GRU4Rec", "NARM") else pytest.param(name, marks=pytest.mark.slow)
        for name in (cls.__name__ for cls in ENCODERS)
    ],
)
def test_ranks_equal_those_of_one_target_at_a_time(
    name: str, small_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ranks() -> np.ndarray:
        model, data = made(name, small_folder)
        evaluation = RankingEvaluation()
        quiet_trainer(tmp_path, callbacks=[evaluation]).test(model, data, verbose=False)
        assert evaluation.last_ranks is not None
        return evaluation.last_ranks

    shared = ranks()
    monkeypatch.setattr(VARIANTS[name][0], "shares_prefixes", False)
    monkeypatch.setattr(SequenceDataModule, "test_dataloader", alone)
    assert np.array_equal(ranks(), shared)


def alone(data: SequenceDataModule) -> Any:
    """The test targets in batches of one."""
    loader = data._loader(*data._evaluated(data.split_result.test))
    loader.sampler.batch_size, loader.sampler.place = 1, np.arange(len(loader.sampler.order))  # type: ignore[union-attr]
    assert all(len(batch) == 1 for batch in loader)
    return loader


def test_prefix_of_names_the_longest_row_with_the_same_first_event(small_folder: Path) -> None:
    _, data = made("SASRec", small_folder)
    for batch in data.test_dataloader():
        prefix_of = batch.prefix_of if batch.prefix_of is not None else torch.arange(len(batch))
        for row, longest in enumerate(prefix_of.tolist()):
            length = int(batch.lengths[row])
            assert batch.user_index[row] == batch.user_index[longest] and prefix_of[longest] == longest
            assert torch.equal(batch.item_ids[row, :length], batch.item_ids[longest, :length])
            assert torch.equal(batch.timestamps[row, :length], batch.timestamps[longest, :length])
