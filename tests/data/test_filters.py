from __future__ import annotations

from itertools import chain, combinations

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_lab.data.filters import k_core
from recsys_lab.data.settings import PrepareSettings

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


def core_of(events: list[tuple[int, int]], **chosen) -> list[tuple[int, int]]:
    frame = pl.DataFrame(sorted(events), schema={"user": pl.UInt32, "item": pl.UInt32}, orient="row")
    return k_core(frame, PrepareSettings(**chosen)).rows()


@settings(max_examples=100, deadline=None)
@given(EVENTS, st.integers(1, 5), st.integers(1, 5))
def test_iterated_k_core_is_the_largest_set_where_both_minima_hold(events, min_user, min_item):
    found = core_of(events, min_user_events=min_user, min_item_events=min_item)
    assert found == brute_force_core(sorted(events), min_user, min_item)


@pytest.mark.parametrize(
    ("iterate", "expected"),
    # item 9 goes; user 1 is then short and goes; item 1 is then rare, which only another pass sees
    [(False, [(0, 1), (0, 2), (0, 2)]), (True, [])],
)
def test_one_pass_drops_items_then_users(iterate, expected):
    events = [(0, 1), (0, 2), (0, 2), (1, 1), (1, 9)]
    assert core_of(events, min_user_events=3 if iterate else 2, min_item_events=2, k_core_iterate=iterate) == expected
