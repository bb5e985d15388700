from __future__ import annotations

import tempfile
from itertools import chain, combinations
from pathlib import Path
from unittest.mock import patch

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_lab.data.prepare import sorted_events
from recsys_lab.data.prepare.filters import k_core
from recsys_lab.data.prepare.prepare_settings import PrepareSettings
from recsys_lab.data.prepare.progress import Progress
from recsys_lab.data.prepare.sorted_events import SortedEvents

EVENTS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=24)  # user, item


def subsets(values: set[int]):
    return chain.from_iterable(combinations(values, n) for n in range(len(values) + 1))


def brute_force_core(events: list[tuple[int, int]], min_user: int, min_item: int) -> list[tuple[int, int]]:
    """The union of all pairs (users, items) that satisfy both minima among themselves: by definition the largest."""
    users, items = set(), set()
    for some_users in subsets({u for u, _ in events}):
        for some_items in subsets({i for _, i in events}):
            kept = [(u, i) for u, i in events if u in some_users and i in some_items]
            if all(sum(e[0] == u for e in kept) >= min_user for u in some_users) and all(
                sum(e[1] == i for e in kept) >= min_item for i in some_items
            ):
                users |= set(some_users)
                items |= set(some_items)
    return [(u, i) for u, i in events if u in users and i in items]


def core_of(rows: list[tuple[int, int]], block_events: int = 1 << 20, **chosen) -> list[tuple[int, int]]:
    """k_core of (user, item) events, read in blocks of at least one user."""
    frame = pl.DataFrame(sorted(rows), schema={"user": pl.UInt32, "item": pl.UInt32}, orient="row")
    with tempfile.TemporaryDirectory() as folder, patch.object(sorted_events, "BLOCK_EVENTS", block_events):
        events = SortedEvents(Path(folder), 4, 10)
        events.append(frame)
        k_core(events, PrepareSettings(**chosen), Progress())
        left = frame.filter(pl.Series(events.keep))
    assert events.user_counts.tolist() == np.bincount(left["user"], minlength=4).tolist()
    assert events.item_counts.tolist() == np.bincount(left["item"], minlength=10).tolist()
    return left.rows()


@settings(max_examples=100, deadline=None)
@given(EVENTS, st.integers(1, 5), st.integers(1, 5), st.sampled_from([1, 5, 1 << 20]))
def test_iterated_k_core_is_the_largest_set_where_both_minima_hold(events, min_user, min_item, block_events):
    found = core_of(events, block_events, min_user_events=min_user, min_item_events=min_item)
    assert found == brute_force_core(sorted(events), min_user, min_item)


@pytest.mark.parametrize(
    ("iterate", "expected"),
    # item 9 goes; user 1 is then short and goes; item 1 is then rare, which only another pass sees
    [(False, [(0, 1), (0, 2), (0, 2)]), (True, [])],
)
def test_one_pass_drops_items_then_users(iterate, expected):
    events = [(0, 1), (0, 2), (0, 2), (1, 1), (1, 9)]
    assert core_of(events, min_user_events=3 if iterate else 2, min_item_events=2, k_core_iterate=iterate) == expected
