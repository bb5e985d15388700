"""Splits against brute force over each user's events."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_lab.config import from_config, to_config
from recsys_lab.data.split import temporal
from recsys_lab.data.split.leave_one_out import GlobalTemporal, LeaveOneOut, SplitResult
from recsys_lab.words import RecsysLabError

DAY = 86_400
users_times = st.lists(st.lists(st.integers(0, 30), max_size=9).map(sorted), min_size=1, max_size=8).filter(any)
"""Sorted event times of each user."""


def flat(users: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    offsets = np.cumsum([0, *(len(times) for times in users)])
    return offsets, np.array([t for times in users for t in times], dtype=np.int64)


def check_targets(result: SplitResult, offsets: np.ndarray) -> None:
    for targets in (result.val, result.test):
        assert (np.diff(targets.user_index) >= 0).all()
        assert len(set(targets.position.tolist())) == len(targets)
        begin, stop = offsets[:-1][targets.user_index], offsets[1:][targets.user_index]
        assert ((targets.position > begin) & (targets.position < stop)).all(), "of this user, and with a history"
        assert (targets.position >= result.train_stop[targets.user_index]).all(), "no target trains"


@settings(max_examples=100, deadline=None)
@given(lengths=st.lists(st.integers(0, 6), min_size=1, max_size=10))
def test_leave_one_out(lengths: list[int]) -> None:
    offsets = np.cumsum([0, *lengths])
    if max(lengths) < 3:
        with pytest.raises(
            RecsysLabError, match=f"all {len(lengths)} users are shorter .longest: {max(lengths)} events"
        ):
            LeaveOneOut().apply(offsets, None)
        return
    result = LeaveOneOut().apply(offsets, None)
    check_targets(result, offsets)
    long = [u for u, n in enumerate(lengths) if n >= 3]
    assert result.test.user_index.tolist() == result.val.user_index.tolist() == long
    assert result.test.position.tolist() == [offsets[u + 1] - 1 for u in long]
    assert result.val.position.tolist() == [offsets[u + 1] - 2 for u in long]
    for user, length in enumerate(lengths):
        assert result.train_stop[user] - offsets[user] == (length - 2 if length >= 3 else length)
        assert result.final is not None
        assert result.final.train_stop[user] - offsets[user] == (length - 1 if length >= 3 else length)
    assert not len(result.final.val) and np.array_equal(result.final.test.position, result.test.position)
    assert sum(result.dropped.values()) == len(lengths) - len(long)


def by_definition(users: list[list[int]], split: GlobalTemporal) -> tuple[int, int, dict[str, list[list[int]]]]:
    """The cuts, and per part the targets that each user could have: flat positions with an earlier event."""
    every = sorted(t for times in users for t in times)
    test_cut = every[min(int(split.quantile * len(every)), len(every) - 1)]
    before = [t for t in every if t < test_cut]
    if not before:
        raise LookupError
    val_cut = before[min(int(split.val_quantile * len(before)), len(before) - 1)]
    offsets, _ = flat(users)
    parts: dict[str, list[list[int]]] = {"val": [], "test": []}
    for user, times in enumerate(users):
        for part, low, high in (("val", val_cut, test_cut), ("test", test_cut, 10**9)):
            parts[part].append([int(offsets[user]) + i for i, t in enumerate(times) if low <= t < high and i > 0])
    if not any(t < val_cut for t in before) or not any(parts["val"]) or not any(parts["test"]):
        raise LookupError
    return val_cut, test_cut, parts


@settings(max_examples=120, deadline=None)
@given(
    users=users_times,
    quantile=st.floats(0.2, 0.95),
    val_quantile=st.floats(0.2, 0.95),
    target=st.sampled_from(["last", "random", "all", "first"]),
    seed=st.integers(0, 3),
)
def test_global_temporal_by_definition(
    users: list[list[int]], quantile: float, val_quantile: float, target: Any, seed: int
) -> None:
    split = GlobalTemporal(quantile, val_quantile, target=target, seed=seed)
    offsets, times = flat(users)
    try:
        val_cut, test_cut, parts = by_definition(users, split)
    except LookupError:
        with pytest.raises(RecsysLabError):
            split.apply(offsets, times)
        return
    result = split.apply(offsets, times)
    check_targets(result, offsets)
    assert result.cut_time == val_cut < test_cut
    trains = {p for u in range(len(users)) for p in range(offsets[u], result.train_stop[u])}
    assert trains == set(np.flatnonzero(times < val_cut).tolist()), "no training event at or after the cut, all before"
    for part, low, high in (("val", val_cut, test_cut), ("test", test_cut, 10**9)):
        targets = getattr(result, part)
        assert ((times[targets.position] >= low) & (times[targets.position] < high)).all()
        possible = [positions for positions in parts[part] if positions]
        if target == "random":
            own = [targets.position[targets.user_index == u].tolist() for u in range(len(users))]
            assert [len(p) for p in own] == [min(1, len(p)) for p in parts[part]]
            assert all(set(p) <= set(allowed) for p, allowed in zip(own, parts[part], strict=True))
        else:
            pick = {"last": lambda p: p[-1:], "first": lambda p: p[:1], "all": lambda p: p}[target]
            assert targets.position.tolist() == [p for positions in possible for p in pick(positions)]
    lost = sum(
        any(low <= t < high for t in times[:1])
        for times in users
        for low, high in ((val_cut, test_cut), (test_cut, 10**9))
    )
    assert sum(result.dropped.values()) == lost, "an event without any before it can't be a target, and is counted"


TIMES = st.lists(st.one_of(st.integers(0, 9), st.integers(1_600_000_000, 1_600_000_100)), min_size=1, max_size=30)


@settings(max_examples=200, deadline=None)
@given(TIMES, st.floats(0.01, 0.99), st.booleans(), st.sampled_from([(2, 1), (3, 7), (1 << 16, 1 << 22)]))
def test_the_quantile_is_that_of_the_sorted_times(times: list[int], q: float, is_cut: bool, sizes: Any) -> None:
    """Whatever the number of bins and the size of the blocks that count it."""
    before = sorted(times)[len(times) // 2] + 1 if is_cut else None
    counted = sorted(t for t in times if before is None or t < before)
    with patch.multiple(temporal, BINS=sizes[0], BLOCK=sizes[1]):
        found = temporal._quantile(np.array(times), q, before)
    assert found == counted[min(int(np.floor(q * len(counted))), len(counted) - 1)]


def many_users() -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(0)
    return flat([sorted(draw.integers(0, 100, 20).tolist()) for _ in range(200)])


def test_a_random_target_is_drawn_by_seed_evenly_and_not_alike_in_val_and_test() -> None:
    offsets, times = many_users()
    one, again, other = (GlobalTemporal(0.5, 0.5, target="random", seed=s).apply(offsets, times) for s in (1, 1, 2))
    assert np.array_equal(one.test.position, again.test.position)
    assert (one.test.position != other.test.position).mean() > 0.7
    last = GlobalTemporal(0.5, 0.5, target="last").apply(offsets, times)
    first = GlobalTemporal(0.5, 0.5, target="first").apply(offsets, times)
    width = last.test.position - first.test.position
    place = (one.test.position - first.test.position)[width > 0] / width[width > 0]
    assert 0.4 < place.mean() < 0.6 and place.min() == 0 and place.max() == 1


def test_cuts_by_date() -> None:
    users = [[day * DAY for day in (1, 2, 10, 11, 20, 21)], [day * DAY for day in (1, 19, 20)]]
    offsets, times = flat(users)
    split = GlobalTemporal(test_date="1970-01-21", val_date="1970-01-11T00:00:00", target="all")  # days 20 and 10
    result = split.apply(offsets, times)
    assert result.cut_time == 10 * DAY
    assert result.train_stop.tolist() == [2, 7]
    assert result.val.position.tolist() == [2, 3, 7] and result.test.position.tolist() == [4, 5, 8]
    shifted = GlobalTemporal(test_date="1970-01-21T02:00:00+02:00", val_date="1970-01-11").apply(offsets, times)
    assert shifted.test.position.tolist() == [5, 8], "a time zone is heeded; without one it is UTC"
    assert GlobalTemporal(test_date="1970-01-21").apply(offsets, times).cut_time == 19 * DAY


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"quantile": 1.0}, "quantile must be above 0 and below 1, not 1.0"),
        ({"val_quantile": 0.0}, "val_quantile must be above 0 and below 1"),
        ({"target": "middle"}, "target must be one of 'last', 'random', 'all', 'first', 'together', not 'middle'"),
        ({"validation": "by_user"}, "validation must be one of 'by_time', 'last_train_item', not 'by_user'"),
        ({"users": "cold"}, "users must be one of 'all', 'warm', not 'cold'"),
        ({"quantile": 0.9, "test_date": "1970-01-05"}, "one of quantile, .* got quantile and test_date"),
        ({"test_date": "1970-01-05", "test_window": "2d"}, "got test_date and test_window"),
        ({"val_quantile": 0.5, "val_window": "2d"}, "one of val_quantile, .* got val_quantile and val_window"),
        ({"validation": "last_train_item", "val_window": "2d"}, "last_train_item has no cut: drop val_window"),
        ({"test_window": "a week"}, "test_window must be .*like 7d or 12h, not 'a week'"),
        ({"test_window": "0d"}, "test_window must be .*not '0d'"),
        ({"test_window": "9w"}, "leaves 0 of 9 events for training"),
        ({"test_window": "2d", "val_window": "9w"}, "nothing to train on"),
        ({"test_date": "1970-01-03", "val_date": "1970-01-03", "users": "warm"}, "must be before the test cut"),
        ({"test_date": "1980-01-01"}, "leaves 9 of 9 events for training; the data spans 1970-01-02"),
        ({"test_date": "1970-01-01"}, "leaves 0 of 9 events for training"),
        ({"test_date": "last week"}, "test_date must be a date like 2001-01-31.*not 'last week'"),
        ({"test_date": "1970-01-05", "val_date": "1970-01-06"}, "val_date .* must be before the test cut"),
        ({"test_date": "1970-01-05", "val_date": "1970-01-01"}, "nothing to train on"),
    ],
)
def test_errors_of_the_temporal_split(arguments: dict[str, Any], message: str) -> None:
    offsets, times = flat([[day * DAY for day in (1, 2, 3, 4, 5, 6)], [day * DAY for day in (1, 2, 3)]])
    with pytest.raises(RecsysLabError, match=message):
        GlobalTemporal(**arguments).apply(offsets, times)


def test_the_temporal_split_needs_time() -> None:
    with pytest.raises(RecsysLabError, match="needs timestamps.*use LeaveOneOut"):
        GlobalTemporal().apply(np.array([0, 5]), None)


def test_all_at_one_time_can_not_be_cut() -> None:
    with pytest.raises(RecsysLabError, match="leaves 0 of 4 events"):
        GlobalTemporal().apply(np.array([0, 2, 4]), np.array([7, 7, 7, 7]))


@pytest.mark.parametrize("split", [LeaveOneOut(), GlobalTemporal(0.8, test_date=None, target="all", seed=3)])
def test_configuration_and_description(split: Any) -> None:
    assert to_config(from_config(to_config(split))) == to_config(split)
    assert ("leaky" in split.describe()) is split.leaky
    assert "reverse" in GlobalTemporal(target="first").describe()
