"""Batches against a per-row oracle in plain Python; which windows meet in which batch, on one and several processes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import recsys_lab.data.batches.samplers as module
from recsys_lab.data import histories
from recsys_lab.data.batches.field_columns import CategoricalColumn
from recsys_lab.data.batches.gather import Events, WindowDataset, WindowLoader
from recsys_lab.data.batches.samplers import EvaluationBatches, TrainBatches
from recsys_lab.data.batches.windows import Windows, evaluation_windows, training_windows
from recsys_lab.words import RecsysLabError


@st.composite
def event_arrays(draw: st.DrawFn) -> Events:
    lengths = draw(st.lists(st.integers(2, 12), min_size=1, max_size=6))
    offsets = np.cumsum([0, *lengths])
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    total = int(offsets[-1])
    types = rng.integers(1, 4, total).astype(np.uint8) if draw(st.booleans()) else None
    items = rng.integers(1, draw(st.integers(2, 9)), total).astype(np.int32)  # few items: many repeats
    fields = {} if types is None else {"type": CategoricalColumn(types, np.arange(4))}
    return Events(items, rng.integers(1, 50, total).cumsum().astype(np.int64), offsets.astype(np.int64), fields)


def padded(values: list[list[int]], width: int) -> list[list[int]]:
    return [row + [0] * (width - len(row)) for row in values]


def check_inputs(batch: Any, events: Events, windows: Windows, rows: list[int]) -> None:
    spans = [(int(windows.start[r]), int(windows.stop[r])) for r in rows]
    width = max(stop - start for start, stop in spans)
    assert batch.item_ids.tolist() == padded([events.item_ids[a:b].tolist() for a, b in spans], width)
    assert batch.timestamps.tolist() == padded([events.timestamps[a:b].tolist() for a, b in spans], width)
    assert batch.event.keys() == events.fields.keys()
    for name, column in events.fields.items():
        assert isinstance(column, CategoricalColumn)
        assert batch.event[name].tolist() == padded([column.codes[a:b].tolist() for a, b in spans], width)
    assert batch.valid_mask.tolist() == padded([[True] * (b - a) for a, b in spans], width)
    assert batch.lengths.tolist() == [b - a for a, b in spans]
    assert batch.user_index.tolist() == windows.user_index[rows].tolist()
    whole = [batch.item_ids, batch.target_ids, batch.timestamps, *batch.event.values(), batch.lengths, batch.user_index]
    assert all(tensor.dtype == torch.int64 for tensor in whole) and batch.valid_mask.dtype == torch.bool
    assert len(batch) == len(rows)


@settings(max_examples=100, deadline=None)
@given(events=event_arrays(), max_length=st.integers(1, 8), data=st.data())
def test_training_batches_row_by_row(events: Events, max_length: int, data: st.DataObject) -> None:
    mode = data.draw(st.sampled_from(["all_positions", "last_position"]))
    stride = None if mode == "last_position" else data.draw(st.integers(1, max_length))
    windows = training_windows(events.offsets[:-1], events.offsets[1:], max_length, stride, mode)
    rows = data.draw(st.lists(st.integers(0, len(windows) - 1), min_size=1, max_size=6))
    batch = WindowDataset(events, windows)[rows]
    check_inputs(batch, events, windows, rows)
    for row, w in enumerate(rows):
        for column in range(batch.item_ids.shape[1]):
            position = int(windows.start[w]) + column + 1  # of the target of this input
            counts = windows.first_target[w] <= position <= windows.stop[w]
            assert batch.target_ids[row, column] == (events.item_ids[position] if counts else 0)
    flat = batch.target_ids.flatten()
    assert batch.target_positions.tolist() == [i for i, target in enumerate(flat.tolist()) if target]
    assert batch.seen_ids is None and batch.seen_offsets is None
    assert batch.query_time.tolist() == [int(events.timestamps[windows.stop[w]]) for w in rows]


@settings(max_examples=100, deadline=None)
@given(
    events=event_arrays(),
    max_length=st.integers(1, 8),
    mode=st.sampled_from(["evaluate", "predict"]),
    exclude=st.sampled_from(["history", "window", "none"]),
    data=st.data(),
)
def test_evaluation_batches_row_by_row(
    events: Events, max_length: int, mode: Any, exclude: Any, data: st.DataObject
) -> None:
    users = np.arange(len(events.offsets) - 1)
    position = events.offsets[1:] if mode == "predict" else events.offsets[1:] - 1
    windows = evaluation_windows(events.offsets[:-1], users, position, max_length)
    rows = data.draw(st.lists(st.sampled_from(users.tolist()), min_size=1, max_size=6))
    batch = WindowDataset(events, windows, mode, exclude)[rows]
    check_inputs(batch, events, windows, rows)
    for row, w in enumerate(rows):
        start, stop = int(windows.start[w]), int(windows.stop[w])
        if mode == "predict":
            assert batch.target_ids[row] == 0 and batch.query_time[row] == events.timestamps[stop - 1]
        else:
            assert batch.target_ids[row] == events.item_ids[stop] and batch.query_time[row] == events.timestamps[stop]
        begin = {"history": int(events.offsets[w]), "window": start, "none": stop}[exclude]
        seen = batch.seen_ids[batch.seen_offsets[row] : batch.seen_offsets[row + 1]].tolist()
        assert sorted(seen) == sorted(set(events.item_ids[begin:stop].tolist())), "each once, nothing of the future"
    assert batch.seen_offsets[-1] == len(batch.seen_ids)


@settings(max_examples=60, deadline=None)
@given(events=event_arrays(), block=st.sampled_from([1, 5, 13, 1 << 20]))
def test_first_occurrences_whatever_the_blocks(events: Events, block: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(histories, "EVENTS_AT_ONCE", block)
        flags = events.first_occurrence
    for user in range(len(events.offsets) - 1):
        items = events.item_ids[events.offsets[user] : events.offsets[user + 1]].tolist()
        expected = [item not in items[:i] for i, item in enumerate(items)]
        assert flags[events.offsets[user] : events.offsets[user + 1]].tolist() == expected
    assert events.first_occurrence is flags, "made once for all loaders"


def test_first_occurrences_with_users_without_events_and_without_any() -> None:
    empty = np.zeros(0, np.int32)
    assert Events(empty, empty, np.zeros(4, np.int64)).first_occurrence.tolist() == []
    items = np.array([2, 2, 3, 2, 5], np.int32)
    events = Events(items, np.arange(5), np.array([0, 0, 3, 3, 5, 5]))
    assert events.first_occurrence.tolist() == [True, False, True, True, True]


def test_only_a_copy_from_pinned_memory_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = made_loader().dataset
    batch, asked = dataset[0], []
    original = torch.Tensor.to

    def to(self: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        asked.append(kwargs["non_blocking"])
        return original(self, *args, **kwargs)

    monkeypatch.setattr(torch.Tensor, "to", to)
    batch.to("cpu")
    assert len(asked) >= 8 and not any(asked)
    asked.clear()
    monkeypatch.setattr(torch.Tensor, "is_pinned", lambda self: True)
    batch.to("cpu")
    assert all(asked)
    asked.clear()
    batch.to("cpu", non_blocking=False)
    assert not any(asked)


def test_one_index_is_a_batch_of_one() -> None:
    events = Events(np.array([3, 1, 2], np.int32), np.array([5, 6, 7]), np.array([0, 3]))
    dataset = WindowDataset(events, training_windows(events.offsets[:-1], events.offsets[1:], 5))
    assert dataset[0].item_ids.tolist() == [[3, 1]] and dataset[0].target_ids.tolist() == [[1, 2]]
    assert len(dataset) == 1


def on_process(monkeypatch: pytest.MonkeyPatch, rank: int, world: int) -> None:
    monkeypatch.setattr(module, "rank_and_world", lambda: (rank, world))


def window_lengths(count: int, longest: int = 200, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).geometric(0.03, count).clip(1, longest)


@pytest.mark.parametrize("bucketing", [True, False])
@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("windows", [7, 64, 193, 1001])
def test_every_window_once_per_epoch_over_all_processes(
    world: int, windows: int, bucketing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths, epochs = window_lengths(windows), []
    for epoch in range(3):
        shares = []
        for rank in range(world):
            on_process(monkeypatch, rank, world)
            batches = TrainBatches(lengths, 16, bucketing, seed=5)
            batches.set_epoch(epoch)
            shares.append(list(batches))
            assert len(shares[-1]) == len(batches)
        assert len({len(share) for share in shares}) == 1, "a step is collective"
        assert sorted(i for share in shares for batch in share for i in batch) == list(range(windows))
        for step in zip(*shares, strict=True):
            sizes = [len(batch) for batch in step]
            assert min(sizes) >= 1 and max(sizes) - min(sizes) <= 1
            assert max(sizes) <= 16 + 1
        epochs.append(shares)
    if windows > 16 * world:
        assert epochs[0] != epochs[1] != epochs[2], "another order each epoch"


def test_the_order_depends_on_seed_and_epoch_only() -> None:
    lengths = window_lengths(300)
    one, same, other = (
        TrainBatches(lengths, 8, seed=1),
        TrainBatches(lengths, 8, seed=1),
        TrainBatches(lengths, 8, seed=2),
    )
    torch.manual_seed(7)
    first = list(one)
    torch.manual_seed(8)
    assert list(same) == first != list(other)
    assert list(one) == first, "the epoch says the order, not how often it was asked"


def test_two_processes_train_on_the_joined_batches_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = window_lengths(101)
    on_process(monkeypatch, 0, 1)
    whole = list(TrainBatches(lengths, 32, seed=3))
    shares = []
    for rank in range(2):
        on_process(monkeypatch, rank, 2)
        shares.append(list(TrainBatches(lengths, 16, seed=3)))
    assert [sorted(a + b) for a, b in zip(*shares, strict=True)] == [sorted(batch) for batch in whole]


def test_bucketing_leaves_little_padding() -> None:
    lengths = window_lengths(20_000)

    def padding(bucketing: bool) -> float:
        batches = list(TrainBatches(lengths, 128, bucketing))
        return 1 - lengths.sum() / sum(len(batch) * lengths[batch].max() for batch in batches)

    assert padding(True) < 0.1 < 0.5 < padding(False)


def test_bucketing_shuffles_batches_and_company() -> None:
    lengths = window_lengths(12_000)  # more than a block
    batches = TrainBatches(lengths, 50)
    means = [lengths[batch].mean() for batch in batches]
    assert abs(np.corrcoef(means, range(len(means)))[0, 1]) < 0.4, "not from short to long"
    before = {frozenset(batch) for batch in batches}
    batches.set_epoch(1)
    assert not before & {frozenset(batch) for batch in batches}


def test_fewer_windows_than_processes_is_an_error_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    on_process(monkeypatch, 1, 2)
    with pytest.raises(RecsysLabError, match="1 training window.* 2 processes: use fewer devices"):
        list(TrainBatches(window_lengths(1), 16))


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("samples", [3, 13, 100])
def test_every_evaluation_sample_once_over_all_processes(
    world: int, samples: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths, shares = window_lengths(samples), []
    for rank in range(world):
        on_process(monkeypatch, rank, world)
        batches = EvaluationBatches(lengths, 8)
        shares.append([i for batch in batches for i in batch])
        assert len(list(batches)) == len(batches) and all(len(batch) <= 8 for batch in batches)
    assert sorted(i for share in shares for i in share) == list(range(samples))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert all((np.diff(lengths[share]) <= 0).all() for share in shares), "the longest first"


@settings(max_examples=60, deadline=None)
@given(
    world=st.integers(1, 3),
    sizes=st.lists(st.integers(1, 12), min_size=1, max_size=20),
    batch_size=st.integers(1, 9),
    seed=st.integers(0, 9),
)
def test_groups_stay_together(world: int, sizes: list[int], batch_size: int, seed: int) -> None:
    """Whole groups on one process and in one batch, the longest first; no sample twice, none dropped."""
    rng = np.random.default_rng(seed)
    group = rng.permutation(np.repeat(rng.permutation(100)[: len(sizes)], sizes))
    lengths, seen, shares = rng.integers(1, 30, len(group)), [], []
    longest = {g: lengths[group == g].max() for g in set(group.tolist())}
    for rank in range(world):
        with pytest.MonkeyPatch.context() as patch:
            on_process(patch, rank, world)
            batches = EvaluationBatches(lengths, batch_size, group)
            mine = list(batches)
            assert len(mine) == len(batches)
        shares.append(len({g for batch in mine for g in group[batch].tolist()}))
        seen += [i for batch in mine for i in batch]
        order = [longest[g] for batch in mine for g in group[batch].tolist()]
        assert order == sorted(order, reverse=True)
        for batch in mine:
            inside = set(group[batch].tolist())
            assert np.isin(group, list(inside)).sum() == len(batch), "a group is whole"
            assert len(batch) <= batch_size or len(inside) == 1, "only a large group makes a large batch"
    assert sorted(seen) == list(range(len(group)))
    assert max(shares) - min(shares) <= 1


def made_loader(workers: int = 0) -> WindowLoader:
    events = Events(np.arange(1, 101, dtype=np.int32), np.arange(100), np.arange(0, 101, 10))
    windows = training_windows(events.offsets[:-1], events.offsets[1:], 3)
    return WindowLoader(WindowDataset(events, windows), TrainBatches(windows.lengths, 4), num_workers=workers)


def test_a_loader_goes_on_in_the_middle_of_an_epoch() -> None:
    loader = made_loader()
    loader.sampler.set_epoch(2)  # type: ignore[attr-defined]
    whole = [batch.target_ids.tolist() for batch in loader]
    half = iter(loader)
    for _ in range(3):
        next(half)
    state = loader.state_dict()
    assert (state["batches_done"], state["epoch"]) == (3, 2)
    again = made_loader()
    again.load_state_dict(state)
    rest = iter(again)
    assert next(rest).target_ids.tolist() == whole[3]
    assert again.state_dict()["batches_done"] == 4
    assert [batch.target_ids.tolist() for batch in rest] == whole[4:]
    assert [batch.target_ids.tolist() for batch in again] == whole, "the next epoch is whole again"


def test_a_state_at_the_end_of_an_epoch_starts_the_next() -> None:
    loader = made_loader()
    loader.load_state_dict({"batches_done": len(loader), "epoch": 0})
    assert len(list(loader)) == len(loader)


def test_worker_processes_give_the_same_batches_in_the_same_order() -> None:
    alone = [batch.target_ids.tolist() for batch in made_loader()]
    assert [batch.target_ids.tolist() for batch in made_loader(workers=2)] == alone


def test_a_loader_draws_nothing_from_the_global_generator() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    list(made_loader())
    assert torch.equal(torch.rand(3), expected)


def test_a_state_at_the_end_of_what_the_trainer_takes_is_the_start_of_the_next_epoch() -> None:
    loader = made_loader()
    loader.sampler.epoch, loader.limit = 2, 3
    batches = iter(loader)
    for _ in range(3):
        next(batches)
    state = loader.state_dict()
    assert (state["batches_done"], state["epoch"]) == (0, 3)
    loader.end_epoch()
    assert loader.state_dict() == state


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"batch_size": 5}, "data.batch_size 8, and now it is 5"),
        ({"seed": 9}, "data.seed 0, and now it is 9"),
        ({"bucketing": False}, "data.length_bucketing True"),
        ({"batch_tokens": 600}, "data.batch_size 8, and now it is None"),
        ({"count": 44}, "training windows 45"),
    ],
)
def test_a_loader_of_other_batches_does_not_go_on(settings: dict[str, Any], words: str) -> None:
    def loader(count: int = 45, **changed: Any) -> WindowLoader:
        lengths = window_lengths(count)
        windows = Windows(*(np.zeros(count, dtype=np.int64),) * 2, lengths, np.zeros(count, dtype=np.int64))
        events = Events(*(np.zeros(99, dtype=np.int64),) * 2, np.array([0, 99]))
        return WindowLoader(WindowDataset(events, windows), TrainBatches(lengths, **{"batch_size": 8} | changed))

    state = loader().state_dict()
    loader().load_state_dict(state)
    with pytest.raises(RecsysLabError, match=words):
        loader(**settings).load_state_dict(state)
