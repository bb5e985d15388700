"""Windows, by hypothesis: every training target exactly once, whatever max_length, stride and mode."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_lab.data.batches.windows import Windows, evaluation_windows, training_windows
from recsys_lab.words import RecsysLabError

histories = st.lists(st.tuples(st.integers(0, 25), st.integers(0, 3)), min_size=1, max_size=8)
"""(training events, held-out events) of each user."""


def spans(history: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """begin and stop of each user's training events in the flat array."""
    offsets = np.cumsum([0, *(train + held for train, held in history)])
    return offsets[:-1], offsets[:-1] + np.array([train for train, _ in history])


def counted(windows: Windows) -> list[int]:
    """Positions of all counted targets, with repetitions."""
    return [p for w in range(len(windows)) for p in range(windows.first_target[w], windows.stop[w] + 1)]


def check_bounds(windows: Windows, begin: np.ndarray, stop: np.ndarray, max_length: int) -> None:
    user = windows.user_index
    assert (windows.start >= begin[user]).all(), "inputs are the user's own"
    assert (windows.stop < stop[user]).all(), "the last target is a training event"
    assert ((windows.lengths >= 1) & (windows.lengths <= max_length)).all()
    assert (windows.first_target > windows.start).all(), "every target has an input before it"
    assert (windows.first_target <= windows.stop).all(), "every window counts a target"
    assert (np.diff(user) >= 0).all()


@settings(max_examples=150, deadline=None)
@given(history=histories, max_length=st.integers(1, 12), data=st.data())
def test_every_training_target_counts_exactly_once(
    history: list[tuple[int, int]], max_length: int, data: st.DataObject
) -> None:
    mode = data.draw(st.sampled_from(["all_positions", "last_position"]))
    stride = None if mode == "last_position" else data.draw(st.none() | st.integers(1, max_length))
    begin, stop = spans(history)
    expected = [p for b, s in zip(begin, stop, strict=True) for p in range(b + 1, s)]  # all but a user's first
    if not expected:
        with pytest.raises(RecsysLabError, match="no training sample: none of the"):
            training_windows(begin, stop, max_length, stride, mode)
        return
    windows = training_windows(begin, stop, max_length, stride, mode)
    check_bounds(windows, begin, stop, max_length)
    assert sorted(counted(windows)) == expected
    assert windows.num_targets == len(expected)
    # an input is before its target, and a window's inputs are as many as there are, up to max_length
    room = np.minimum(windows.stop - begin[windows.user_index], max_length)
    assert (windows.lengths == room).all()
    if mode == "last_position":
        assert (windows.first_target == windows.stop).all()


@settings(max_examples=100, deadline=None)
@given(history=histories, max_length=st.integers(1, 8), keep=st.integers(1, 4), data=st.data())
def test_the_newest_windows_of_each_user(
    history: list[tuple[int, int]], max_length: int, keep: int, data: st.DataObject
) -> None:
    mode = data.draw(st.sampled_from(["all_positions", "last_position"]))
    stride = None if mode == "last_position" else data.draw(st.integers(1, max_length))
    begin, stop = spans(history)
    if not (stop - begin >= 2).any():
        return
    windows = training_windows(begin, stop, max_length, stride, mode, max_windows_per_user=keep)
    check_bounds(windows, begin, stop, max_length)
    every = training_windows(begin, stop, max_length, stride, mode)
    assert all(n <= keep for n in Counter(windows.user_index.tolist()).values())
    assert set(windows.user_index) == set(every.user_index), "no user is lost"
    positions = counted(windows)
    assert len(set(positions)) == len(positions)
    for user in set(windows.user_index.tolist()):
        own = [p for p in positions if begin[user] < p < stop[user]]
        assert own == list(range(own[0], stop[user])), "the newest targets, without a gap"


def test_one_newest_window_is_what_the_original_sasrec_trains_on() -> None:
    windows = training_windows(np.array([0]), np.array([10]), 4, max_windows_per_user=1)
    assert (windows.start[0], windows.stop[0], windows.first_target[0]) == (5, 9, 6)


def test_the_picture_in_the_module() -> None:
    begin, stop = np.array([0]), np.array([9])
    pairs = [(w.start + 1, w.stop, w.first_target + 1, w.stop + 1) for w in [training_windows(begin, stop, 4)]]
    (first, last, target, final), *_ = [tuple(column.tolist() for column in pair) for pair in pairs]
    assert (first, last, target, final) == ([1, 5], [4, 8], [2, 6], [5, 9])
    half = training_windows(begin, stop, 4, stride=2)
    assert (half.first_target + 1).tolist() == [2, 6, 8] and (half.start + 1).tolist() == [1, 3, 5]


@settings(max_examples=50, deadline=None)
@given(history=histories, max_length=st.integers(1, 12))
def test_evaluation_windows_are_the_newest_events_before_the_target(
    history: list[tuple[int, int]], max_length: int
) -> None:
    begin, stop = spans(history)
    users = np.flatnonzero(stop - begin >= 2)
    windows = evaluation_windows(begin, users, stop[users] - 1, max_length)
    for w, user in enumerate(users):
        earlier = list(range(begin[user], stop[user] - 1))[-max_length:]
        assert list(range(windows.start[w], windows.stop[w])) == earlier
        assert windows.stop[w] == windows.first_target[w] == stop[user] - 1, "the target is in no input"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_length": 0}, "max_length must be at least 1, got 0"),
        ({"stride": 5}, r"stride must be between 1 and max_length \(4\), got 5"),
        ({"stride": 0}, "stride must be between 1"),
        ({"stride": 2, "mode": "last_position"}, "stride must be 1, got 2"),
        ({"mode": "next_item"}, "unknown training_mode 'next_item'; known: all_positions, last_position"),
        ({"max_windows_per_user": 0}, "max_windows_per_user must be at least 1, got 0"),
    ],
)
def test_settings_out_of_range(arguments: dict, message: str) -> None:
    with pytest.raises(RecsysLabError, match=message):
        training_windows(np.array([0]), np.array([9]), **{"max_length": 4, **arguments})
