"""Runs of positions, and which items a user has had before: one search, in blocks of users that bound its memory.

Events lie in CSR form: user u owns the events `offsets[u]:offsets[u + 1]`, oldest first.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

EVENTS_AT_ONCE = 1 << 20


def positions(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(U,), (U,) -> (sum of counts,) int64: from each start as many positions as its count, one after the other."""
    return np.arange(counts.sum()) + np.repeat(starts - (np.cumsum(counts) - counts), counts)


def is_first_occurrence(item_ids: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """(E,) items, (U + 1,) -> (E,) bool: the user has not had the event's item before it."""
    found = np.zeros(len(item_ids), dtype=bool)
    if len(offsets) == 2:  # one user: three times as fast
        found[np.unique(item_ids, return_index=True)[1]] = True
        return found
    width = int(item_ids.max(initial=0)) + 1
    for start, stop in _blocks(offsets):
        found[_first_of_pairs(item_ids, offsets, start, stop, width)[1]] = True
    return found


def had_before(
    item_ids: np.ndarray, offsets: np.ndarray, user: np.ndarray, position: np.ndarray, asked: np.ndarray
) -> np.ndarray:
    """(N, K) bool: is the item `asked[n, k]` among the events of `user[n]` before the flat `position[n]`?

    Args:
        item_ids: (E,). offsets: (U + 1,). user: (N,) in any order. position: (N,). asked: (N, K) item ids.
    """
    found = np.zeros(asked.shape, dtype=bool)
    width = int(max(item_ids.max(initial=0), asked.max(initial=0))) + 1
    order = np.argsort(user, kind="stable")
    for start, stop in _blocks(offsets):
        rows = order[slice(*np.searchsorted(user, [start, stop], sorter=order))]
        if len(rows) and offsets[start] < offsets[stop]:
            pairs, first = _first_of_pairs(item_ids, offsets, start, stop, width)
            wanted = (user[rows, None] - start) * width + asked[rows]
            place = np.searchsorted(pairs, wanted).clip(max=len(pairs) - 1)
            found[rows] = (pairs[place] == wanted) & (first[place] < position[rows, None])
    return found


def order_within_users(offsets: np.ndarray, key: np.ndarray, num_keys: int) -> np.ndarray:
    """(E,) flat positions: users stay where they are, each user's events sorted by `key`, stably.

    Args:
        offsets: (U + 1,), from 0 on. key: (E,) int, 0..num_keys - 1.
    """
    lengths = np.diff(offsets)
    longest, user = int(lengths.max(initial=1)), np.repeat(np.arange(len(lengths)), lengths)
    if len(lengths) * num_keys * longest >= 1 << 63:
        return np.lexsort((key, user))
    # user, key and position in one number: sorting values is six times as fast as sorting positions
    begin = np.repeat(offsets[:-1], lengths)
    packed = (user * num_keys + key) * longest + (np.arange(len(key)) - begin)
    packed.sort()
    return begin + packed % longest


def _blocks(offsets: np.ndarray) -> Iterator[tuple[int, int]]:
    """First user and the one after the last: whole users, at least one, up to the bound."""
    start, users = 0, len(offsets) - 1
    while start < users:
        fits = int(np.searchsorted(offsets, offsets[start] + EVENTS_AT_ONCE, side="right")) - 1
        stop = max(start + 1, min(fits, start + EVENTS_AT_ONCE))
        yield start, stop
        start = stop


def _first_of_pairs(
    item_ids: np.ndarray, offsets: np.ndarray, start: int, stop: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """Of the users start..stop - 1: the distinct (user - start) * width + item, rising, and where each comes first."""
    own, items = offsets[start : stop + 1] - offsets[start], item_ids[offsets[start] : offsets[stop]]
    order = order_within_users(own, items, width)
    pair = np.repeat(np.arange(stop - start), np.diff(own)) * width + items[order]  # users stay where they are
    is_first = np.diff(pair, prepend=-1) != 0
    return pair[is_first], offsets[start] + order[is_first]
