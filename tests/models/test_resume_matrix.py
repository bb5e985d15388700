"""A resumed run is the uninterrupted one, bit for bit, whatever the settings and the checkpoint it starts from."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import lightning as L
import pytest
from resumed_runs import CELLS, Cell, differences, run, starts

from recsys_lab.models import checkpoint
from recsys_lab.words import RecsysLabError

ALWAYS = ("whole-number-limit-schedule", "accumulate-limit", "validate-inside-limit", "tokens-accumulate")


@pytest.mark.parametrize("name", [n if n in ALWAYS else pytest.param(n, marks=pytest.mark.slow) for n in CELLS])
def test_a_resumed_run_is_the_uninterrupted_one(name: str, small_folder: Path, tmp_path: Path) -> None:
    cell = CELLS[name]
    whole = run(cell, small_folder, tmp_path, devices=1)
    for start in starts(tmp_path, cell.trainer.get("accumulate_grad_batches", 1)):
        rest = run(cell, small_folder, tmp_path / "rest", 1, start)
        assert not differences(whole, rest, with_loss=start.stem.startswith("epoch")), start.stem


class StopAfter(L.Callback):
    """Ends training after so many batches, as `max_time` does."""

    def __init__(self, batches: int) -> None:
        self.batches = batches

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        self.batches -= 1
        trainer.should_stop = trainer.should_stop or self.batches == 0


@pytest.mark.parametrize(
    ("name", "how"),  # a schedule follows max_steps: that would be another run by intention
    [
        pytest.param("plain", "max_steps", marks=pytest.mark.slow),
        ("plain", "should_stop"),
        ("whole-number-limit-schedule", "should_stop"),
    ],
)
def test_a_run_that_was_stopped_inside_an_epoch_finishes_it(
    name: str, how: str, small_folder: Path, tmp_path: Path
) -> None:
    cell = CELLS[name]
    whole = run(cell, small_folder, tmp_path / "whole", devices=1)
    after = whole.steps // 3 + 2
    part = dataclasses.replace(cell, trainer=cell.trainer | ({"max_steps": after} if how == "max_steps" else {}))
    callbacks = [StopAfter(after)] if how == "should_stop" else []
    assert run(part, small_folder, tmp_path / "part", 1, more=callbacks).steps == after
    rest = run(
        cell,
        small_folder,
        tmp_path / "part",
        1,
        tmp_path / "part" / "last.ckpt",
        more=[StopAfter(-1)][: len(callbacks)],
    )
    assert not differences(whole, rest, with_loss=True)


def test_inside_an_accumulated_step_is_no_place_to_go_on(small_folder: Path, tmp_path: Path) -> None:
    cell = Cell({"accumulate_grad_batches": 3, "val_check_interval": 4})
    run(cell, small_folder, tmp_path, devices=1)
    written = tmp_path / "val=1.ckpt"  # one step and one batch of the next
    with pytest.raises(RecsysLabError, match=r"after 4 batches of an epoch, inside a step of 3 .*last\.ckpt"):
        run(cell, small_folder, tmp_path / "rest", 1, written)


@pytest.mark.parametrize("start", [pytest.param("epoch=0", marks=pytest.mark.slow), "val=3"])
def test_more_batches_an_epoch_from_an_epochs_end_on(
    start: str, small_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As fewer processes have: the next epoch is whole, and not the rest of the one before."""
    monkeypatch.setattr(checkpoint, "check_goes_on", lambda *_: [])  # it refuses this change, but not of devices
    run(CELLS["whole-number-limit"], small_folder, tmp_path, devices=1)
    more = Cell({"limit_train_batches": 5})
    rest = run(more, small_folder, tmp_path / "rest", 1, tmp_path / f"{start}.ckpt")
    assert rest.steps == 3 + 5 + 5
