"""Every draw of training comes from (seed, epoch, batch index, process)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from small_data import quiet_trainer

from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.losses import BCE
from recsys_lab.models import SASRec
from recsys_lab.models.blocks.layers import Dropout
from recsys_lab.models.training_steps import start_batch

CPU = torch.device("cpu")


class DrawsBetween(L.Callback):
    """A callback of a user who draws numbers: before each batch, and at each epoch's end."""

    def on_train_batch_start(self, *_: Any) -> None:
        torch.rand(5)

    def on_train_epoch_end(self, *_: Any) -> None:
        torch.rand(1)


def fit(folder: Path, data_folder: Path, *callbacks: L.Callback, seed: int | None = 3) -> SASRec:
    if seed is not None:
        L.seed_everything(seed, verbose=False)
    data = SequenceDataModule(str(data_folder), max_length=6, batch_size=4, seed=0)
    model = SASRec(embedding_dim=8, dropout=0.4, loss=BCE())
    quiet_trainer(folder, max_epochs=2, callbacks=list(callbacks)).fit(model, data)
    return model


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    return all(torch.equal(v, other.state_dict()[k]) for k, v in one.state_dict().items())


def drawn(seed: int = 0, epoch: int = 0, batch: int = 0, rank: int = 0) -> tuple[list[int], list[float]]:
    """Negatives and a dropout mask of one batch."""
    generator = start_batch(seed, epoch, batch, rank, CPU)
    return torch.randint(1000, (8,), generator=generator).tolist(), Dropout(0.5)(torch.ones(64)).tolist()


@pytest.mark.parametrize("change", [{"seed": 1}, {"epoch": 1}, {"batch": 1}, {"rank": 1}])
def test_each_batch_of_each_epoch_and_process_has_its_own_draws(change: dict[str, int]) -> None:
    one, same, other = drawn(), drawn(), drawn(**change)
    assert one == same
    assert one[0] != other[0] and one[1] != other[1], "negatives, and dropout"


def test_negatives_and_dropout_are_not_one_sequence() -> None:
    generator = start_batch(0, 0, 0, 0, CPU)
    assert not torch.equal(torch.rand(8, generator=generator), torch.rand(8))


def test_draws_of_a_callback_change_nothing(small_folder: Path, tmp_path: Path) -> None:
    assert same(fit(tmp_path, small_folder), fit(tmp_path, small_folder, DrawsBetween()))


def test_what_a_user_draws_after_a_fit_does_not_depend_on_it(small_folder: Path, tmp_path: Path) -> None:
    L.seed_everything(3, verbose=False)
    expected = torch.rand(3)
    fit(tmp_path, small_folder)
    assert torch.equal(torch.rand(3), expected)


def test_a_notebook_without_a_seed_has_seed_0(
    small_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeded, other = fit(tmp_path, small_folder, seed=0), fit(tmp_path, small_folder, seed=1)
    monkeypatch.delenv("PL_GLOBAL_SEED")
    torch.manual_seed(99)
    unseeded = fit(tmp_path, small_folder, seed=None)
    assert same(seeded, unseeded) and not same(seeded, other)


def test_first_weights_are_those_of_the_seed(small_folder: Path, tmp_path: Path) -> None:
    """As they were when they came from torch's generator right after `seed_everything`."""
    data = SequenceDataModule(str(small_folder), max_length=6)
    torch.manual_seed(5)
    by_hand = SASRec(embedding_dim=8)
    by_hand.build(data.spec)
    L.seed_everything(5, verbose=False)
    model = SASRec(embedding_dim=8)
    torch.rand(7)
    quiet_trainer(tmp_path).validate(model, data, verbose=False)
    assert same(model, by_hand)


def test_a_checkpoint_of_before_goes_on(small_folder: Path, tmp_path: Path) -> None:
    """It holds the state of a generator, and neither its seed nor what its batches were made from."""
    L.seed_everything(3, verbose=False)
    data = SequenceDataModule(str(small_folder), max_length=6, batch_size=4, seed=0)
    trainer = quiet_trainer(tmp_path, max_epochs=1)
    trainer.fit(SASRec(embedding_dim=8, dropout=0.4, loss=BCE()), data)
    trainer.save_checkpoint(tmp_path / "new.ckpt")
    checkpoint = torch.load(tmp_path / "new.ckpt", weights_only=True)
    assert checkpoint.pop("seed") == 3 and "rng_state" not in checkpoint
    (state,) = checkpoint["loops"]["fit_loop"]["state_dict"]["combined_loader"]
    del state["batches_from"]
    state |= {"batches_done": len(data.train_dataloader()), "epoch": 0}
    torch.save(checkpoint | {"rng_state": torch.get_rng_state()}, tmp_path / "old.ckpt")
    ends = []
    for name in ("new", "old"):
        model = SASRec(embedding_dim=8, dropout=0.4, loss=BCE())
        quiet_trainer(tmp_path, max_epochs=2).fit(model, data, ckpt_path=tmp_path / f"{name}.ckpt", weights_only=True)
        ends.append(model)
    assert same(*ends)
