"""Over all processes and their workers each training window comes once an epoch, whatever is left over."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_token_batches import on_process, window_lengths

from recsys_lab.data.batches.samplers import TrainBatches
from recsys_lab.data.datamodule import SequenceDataModule


@settings(max_examples=150, deadline=None)
@given(
    world=st.integers(1, 8),
    windows=st.integers(8, 300),
    size=st.integers(1, 40),
    bucketing=st.booleans(),
    bucket_batches=st.integers(1, 5),
    epoch=st.integers(0, 3),
)
def test_batches_of_a_size(
    world: int, windows: int, size: int, bucketing: bool, bucket_batches: int, epoch: int
) -> None:
    batches = TrainBatches(window_lengths(windows), size, bucketing, 3, bucket_batches=bucket_batches)
    batches.set_epoch(epoch)
    shares = [batches.of_process(rank, world) for rank in range(world)]
    assert sorted(window for share in shares for batch in share for window in batch.tolist()) == list(range(windows))
    for step in zip(*shares, strict=True):  # a step is collective
        sizes = [len(batch) for batch in step]
        assert min(sizes) >= 1 and max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(("world", "workers"), [(2, 2), (3, 1)])
def test_loaders_with_workers(world: int, workers: int, small_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found: Counter[tuple[int, ...]] = Counter()
    for rank in range(world):
        on_process(monkeypatch, rank, world)
        data = SequenceDataModule(str(small_folder), max_length=5, batch_size=4, num_workers=workers)
        for batch in data.train_dataloader():
            found.update(
                (int(user), *targets) for user, targets in zip(batch.user_index, batch.target_ids.tolist(), strict=True)
            )
    on_process(monkeypatch, 0, 1)
    whole = SequenceDataModule(str(small_folder), max_length=5, batch_size=1000, num_workers=0)
    assert sum(found.values()) == len(whole.train_windows)
    assert len({user for user, *_ in found}) == len(set(whole.train_windows.user_index.tolist()))
    assert len(found) == sum(found.values()), "none comes twice"
