"""CL4SRec: its loss against a loop over the formula, each way to alter a history, and that it learns."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from found_models import built, random_batch
from small_data import quiet_trainer
from torch import Tensor

from recsys_lab.cli import main
from recsys_lab.contracts import Batch, State
from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.losses.augmented_views import CL4SRec
from recsys_lab.models import SASRec
from recsys_lab.words import RecsysLabError

CROP, MASK, REORDER = 0, 1, 2
LENGTHS = [3, 9, 1, 10, 7, 10]


def one_way(way: int, monkeypatch: pytest.MonkeyPatch, **settings: float) -> CL4SRec:
    """Alters every history in the same way."""
    first = True

    def rand(*shape: Any, **more: Any) -> Tensor:
        nonlocal first
        drawn = original(*shape, **more)
        if first:  # the first numbers choose the way
            first = False
            return torch.full_like(drawn, (way + 0.5) / 3)
        return drawn

    original = torch.rand
    monkeypatch.setattr(torch, "rand", rand)
    return CL4SRec(**settings)  # type: ignore[arg-type]


def batch_of(lengths: list[int]) -> Batch:
    """Distinct items in each row, so that a copy shows where each event came from."""
    batch = random_batch(lengths)
    place = torch.arange(batch.item_ids.shape[1]).expand_as(batch.item_ids)
    items = torch.where(batch.valid_mask, place + 1, 0)
    return dataclasses.replace(batch, item_ids=items)


def real(copy: Batch, row: int) -> list[int]:
    return copy.item_ids[row, : int(copy.lengths[row])].tolist()


def test_crop_keeps_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = batch_of(LENGTHS)
    copy = one_way(CROP, monkeypatch).altered(batch, torch.manual_seed(0))
    firsts = set()
    for row, length in enumerate(LENGTHS):
        items = real(copy, row)
        assert len(items) == max(1, math.floor(0.6 * length))
        assert items == list(range(items[0], items[0] + len(items))) and items[-1] <= length
        assert copy.timestamps[row, : len(items)].tolist() == batch.timestamps[row, [i - 1 for i in items]].tolist()
        assert (copy.item_ids[row, len(items) :] == 0).all()
        firsts.add(items[0])
        for name, values in copy.event.items():
            assert torch.equal(values[row, : len(items)], batch.event[name][row, [i - 1 for i in items]])
    assert len(firsts) > 1
    assert torch.equal(copy.valid_mask.sum(1), copy.lengths)


def test_mask_empties_so_many_events(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = batch_of(LENGTHS)
    copy = one_way(MASK, monkeypatch).altered(batch, torch.manual_seed(0))
    assert torch.equal(copy.lengths, batch.lengths) and torch.equal(copy.valid_mask, batch.valid_mask)
    assert torch.equal(copy.timestamps, batch.timestamps * batch.valid_mask)
    emptied = batch.valid_mask & (copy.item_ids == 0)
    assert emptied.sum(1).tolist() == [math.floor(0.3 * length) for length in LENGTHS]
    assert torch.equal(copy.item_ids[~emptied], batch.item_ids[~emptied])
    for name, values in copy.event.items():
        assert (values[emptied] == 0).all() and torch.equal(values[~emptied], batch.event[name][~emptied])
    assert len({tuple(row) for row in emptied[[3, 5]].tolist()}) == 2


def test_reorder_shuffles_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = batch_of(LENGTHS)
    copy = one_way(REORDER, monkeypatch).altered(batch, torch.manual_seed(1))
    moved = 0
    for row, length in enumerate(LENGTHS):
        items = real(copy, row)
        assert sorted(items) == list(range(1, length + 1))
        other = [place for place, item in enumerate(items) if item != place + 1]
        moved += len(other)
        assert not other or other[-1] - other[0] < max(1, math.floor(0.6 * length))
        for name, values in copy.event.items():
            assert torch.equal(values[row, :length], batch.event[name][row, [i - 1 for i in items]])
    assert moved > 8
    assert torch.equal(copy.timestamps, batch.timestamps * batch.valid_mask)


def test_every_way_is_taken() -> None:
    batch = batch_of([10] * 300)
    copy = CL4SRec().altered(batch, torch.manual_seed(0))
    cropped = copy.lengths == 6
    masked = (copy.item_ids == 0).sum(1) == 3
    for share in (cropped, masked, ~cropped & ~masked):
        assert 0.25 < share.float().mean() < 0.42


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_the_loss_is_the_formula(temperature: float) -> None:
    """NT-Xent written out for each of the 2 B copies: the other copy of its history against all copies but itself."""
    draw = torch.Generator().manual_seed(0)
    states = [torch.randn(4, 10, 5, generator=draw) for _ in range(2)]
    seen: list[Batch] = []

    def encode(copy: Batch) -> Tensor:
        seen.append(copy)
        return states[len(seen) - 1]

    batch = batch_of([3, 10, 1, 4])
    loss = CL4SRec(temperature=temperature)
    got = loss(encode, State(None), batch, None, torch.manual_seed(0))  # type: ignore[arg-type]
    z = [states[view][row, int(seen[view].lengths[row]) - 1] for view in range(2) for row in range(4)]
    total = 0.0
    for one in range(8):
        other = (one + 4) % 8
        above = math.exp(float(z[one] @ z[other]) / temperature)
        below = sum(math.exp(float(z[one] @ z[k]) / temperature) for k in range(8) if k != one)
        total -= math.log(above / below)
    assert float(got) == pytest.approx(total / 8, rel=1e-5)


def test_copies_come_nearer_where_they_are_trained() -> None:
    torch.manual_seed(0)
    model, batch, loss = built(SASRec, dropout=0.0), random_batch([3, 9, 1, 8, 7, 9] * 4), CL4SRec()

    def value() -> Tensor:
        return loss(model.hidden, State(None), batch, model.scorer, torch.Generator().manual_seed(7))

    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    before = float(value())
    for _ in range(30):
        optimizer.zero_grad()
        value().backward()
        optimizer.step()
    assert float(value()) < before - 0.5


def test_a_fit_adds_its_loss_by_its_share(small_folder: Path, tmp_path: Path) -> None:
    losses = []
    for share in (None, 0.0, 1.0):
        L.seed_everything(0, verbose=False)
        extra = [] if share is None else [CL4SRec(share)]
        trainer = quiet_trainer(tmp_path)
        model = SASRec(embedding_dim=8, dropout=0.0, auxiliary=extra)
        trainer.fit(model, SequenceDataModule(str(small_folder), max_length=6, batch_size=64))
        losses.append(float(trainer.callback_metrics["train/loss_epoch"]))
    assert losses[0] == losses[1] < losses[2]


def test_a_fit_from_the_command_line(small_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    line = ["fit", "--model", "SASRec", "--model.embedding_dim", "8", "--data.dataset", str(small_folder)]
    line += ["--trainer.max_epochs", "1", "--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
    views = "recsys_lab.losses.augmented_views.CL4SRec"
    line += ["--run.folder", "run", "--model.auxiliary", f"[{{class_path: {views}, init_args: {{crop: 0.5}}}}]"]
    assert main(line) == 0
    assert main(["test", "run"]) == 0


@pytest.mark.parametrize("settings", [{"crop": 1.5}, {"mask": -0.1}, {"temperature": 0.0}])
def test_settings_that_can_not_be(settings: dict[str, float]) -> None:
    with pytest.raises(RecsysLabError, match=next(iter(settings))):
        CL4SRec(**settings)  # type: ignore[arg-type]
