"""Batches of a number of positions instead of a number of windows, on one and on several processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning.pytorch.callbacks import ModelCheckpoint
from small_data import quiet_trainer

import recsys_lab.data.batches.samplers as module
from recsys_lab.data.batches.samplers import TrainBatches
from recsys_lab.data.datamodule import SequenceDataModule
from recsys_lab.models import GRU4Rec, Optimization
from recsys_lab.words import RecsysLabError


def on_process(patch: pytest.MonkeyPatch, rank: int, world: int) -> None:
    patch.setattr(module, "rank_and_world", lambda: (rank, world))


def window_lengths(count: int, longest: int = 200, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).geometric(0.03, count).clip(1, longest)


def positions(lengths: np.ndarray, batch: list[int]) -> int:
    return len(batch) * int(lengths[batch].max())


@settings(max_examples=150, deadline=None)
@given(
    world=st.integers(1, 4),
    windows=st.integers(4, 400),
    longest=st.integers(1, 60),
    room=st.integers(0, 600),
    bucketing=st.booleans(),
    seed=st.integers(0, 9),
)
def test_each_window_once_within_the_budget(
    world: int, windows: int, longest: int, room: int, bucketing: bool, seed: int
) -> None:
    lengths = window_lengths(windows, longest, seed)
    budget, counts = int(lengths.max()) + room, set()
    for epoch in range(3):
        shares = []
        for rank in range(world):
            with pytest.MonkeyPatch.context() as patch:
                on_process(patch, rank, world)
                batches = TrainBatches(lengths, 1, bucketing, seed, batch_tokens=budget)
                batches.set_epoch(epoch)
                shares.append(list(batches))
                counts.add(len(batches))
                assert len(shares[-1]) == len(batches)
        assert sorted(i for share in shares for batch in share for i in batch) == list(range(windows))
        over = 0
        for step in zip(*shares, strict=True):  # a step is collective
            sizes = [len(batch) for batch in step]
            assert min(sizes) >= 1 and max(sizes) - min(sizes) <= 1
            over += any(positions(lengths, batch) > budget for batch in step)
            assert all(positions(lengths, batch[1:]) <= budget for batch in step if len(batch) > 1)
        assert over == 0 or (over == 1 and world > 1), "only a rest that can't be shared joins another batch"
    assert len(counts) == 1, "schedules count on the same number of steps on every process and in every epoch"


@pytest.mark.parametrize("world", [1, 2, 3])
def test_the_shares_of_a_step_are_nearly_equal_and_batches_nearly_full(
    world: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths, budget = window_lengths(20_000), 4_000
    shares = []
    for rank in range(world):
        on_process(monkeypatch, rank, world)
        shares.append(list(TrainBatches(lengths, 1, batch_tokens=budget)))
    for step in zip(*shares, strict=True):
        real = [int(lengths[batch].sum()) for batch in step]
        assert max(real) - min(real) <= 200 + 0.03 * budget, "a row, and what windows of one bucket differ by"
    sizes = [positions(lengths, batch) for share in shares for batch in share]
    assert np.mean(sizes) > 0.85 * budget, "some close before shorter windows would be padded much"
    assert 1 - lengths.sum() / sum(sizes) < 0.05, "padding"
    windows = [len(batch) for batch in shares[0]]
    assert max(windows) > 10 * min(windows), "many short windows, few long ones"


def test_longer_blocks_leave_less_padding() -> None:
    lengths = window_lengths(12_000)

    def padding(blocks: int) -> float:
        batches = list(TrainBatches(lengths, 64, bucket_batches=blocks))
        assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
        return 1 - lengths.sum() / sum(positions(lengths, batch) for batch in batches)

    assert padding(200) < 0.03 < padding(50) < padding(10)
    assert list(TrainBatches(lengths, 64, bucket_batches=100)) == list(TrainBatches(lengths, 64)), "the default"
    with pytest.raises(RecsysLabError, match="bucket_batches must be at least 1, not 0"):
        SequenceDataModule("synthetic", bucket_batches=0)


def test_the_order_depends_on_seed_and_epoch_and_company_changes() -> None:
    lengths = window_lengths(5_000)
    one, same, other = (TrainBatches(lengths, 1, seed=s, batch_tokens=2_000) for s in (1, 1, 2))
    first = list(one)
    assert first == list(same) != list(other)
    means = [lengths[batch].mean() for batch in first]
    assert abs(np.corrcoef(means, range(len(means)))[0, 1]) < 0.4, "not from long to short"
    before = {frozenset(batch) for batch in first}
    one.set_epoch(1)
    assert len(before & {frozenset(batch) for batch in one}) < len(before) / 20


def test_without_bucketing_each_batch_has_room_for_the_longest_windows() -> None:
    lengths = window_lengths(1_000, longest=50)
    batches = list(TrainBatches(lengths, 1, False, batch_tokens=512))
    assert {len(batch) for batch in batches[:1] + batches[5:]} <= {10, 5} and len(batches) == 100
    assert np.std([lengths[batch].mean() for batch in batches]) < 8, "windows of all lengths meet"


def test_a_window_that_does_not_fit() -> None:
    with pytest.raises(RecsysLabError, match="batch_tokens 49 can't hold a window of 50 events"):
        TrainBatches(np.array([3, 50]), 1, batch_tokens=49)
    with pytest.raises(RecsysLabError, match=r"at least max_length \(50\), got 49"):
        SequenceDataModule("synthetic", batch_tokens=49)


def trained(folder: Path, data_folder: Path, **arguments: Any) -> tuple[Any, list[list[int]]]:
    seen: list[list[int]] = []

    class Watched(GRU4Rec):
        def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
            super().on_train_batch_start(batch, batch_idx)
            seen.append(batch.target_ids.tolist())

    model = Watched(embedding_dim=8, optimization=Optimization(schedule="cosine"))
    data = SequenceDataModule(str(data_folder), max_length=6, batch_tokens=24, batch_size=1, seed=0)
    each_step = ModelCheckpoint(folder, every_n_train_steps=1, save_top_k=-1, filename="{step}")
    trainer = quiet_trainer(folder, max_epochs=2, enable_checkpointing=True, callbacks=[each_step])
    trainer.fit(model, data, **arguments)
    return trainer, seen


def test_a_run_takes_the_planned_steps_and_resumes_in_the_middle_of_an_epoch(
    small_folder: Path, tmp_path: Path
) -> None:
    trainer, whole = trained(tmp_path / "whole", small_folder)
    steps = trainer.global_step
    assert steps == len(whole) == trainer.estimated_stepping_batches and steps % 2 == 0
    assert max(len(rows) * len(rows[0]) for rows in whole) <= 24
    middle = steps // 2 + 2
    checkpoint = str(tmp_path / "whole" / f"step={middle}.ckpt")
    _, rest = trained(tmp_path / "rest", small_folder, ckpt_path=checkpoint, weights_only=True)
    assert rest == whole[middle:]
