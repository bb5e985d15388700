"""Repeats, duplicates and ties: what a log says of its own order."""

from __future__ import annotations

from typing import Any

import numpy as np

from recsys_lab.audit.log import Log


def order_facts(log: Log) -> dict[str, Any]:
    """Counts of events that repeat, tie or duplicate another one, as plain data; None where time is needed for it."""
    repeats = int(log.is_repeat.sum())
    consecutive = int((log.same_user & (log.item_ids[1:] == log.item_ids[:-1])).sum())
    users = duplicate_users(log)
    return {
        "tied_events": None if log.is_tied is None else int(log.is_tied.sum()),
        "repeated_events": repeats,
        "consecutive_repeats": consecutive,
        "duplicate_events": duplicate_events(log),
        "duplicate_users": int(users.sum()),
        "duplicate_users_of_5_events": int((users & (log.lengths >= 5)).sum()),
    }


def duplicate_events(log: Log) -> int | None:
    """Events that an earlier one equals in user, item, time and type; None without time."""
    if log.timestamps is None:
        return None
    times = log.timestamps[log.pair_order]
    same = log.same_pair & (times[1:] == times[:-1])
    if log.event_types is None:
        return int(same.sum())
    # only events in such a group can be duplicates: those, sorted by type within the group
    inside = np.append(same, False) | np.insert(same, 0, False)
    group = np.cumsum(np.insert(~same, 0, False))[inside]
    types = log.event_types[log.pair_order][inside].astype(np.int64)
    packed = np.sort(group * 256 + types)
    return int((packed[1:] == packed[:-1]).sum())


def duplicate_users(log: Log) -> np.ndarray:
    """(U,) bool: another user has the very same items in the very same order.

    Histories are compared by a 64-bit sum of random numbers, one per item times one (odd) per place: that two different
    histories meet by chance is a matter of 1 in 10^19 per pair.
    """
    draw = np.random.default_rng(0)
    of_item = draw.integers(1 << 63, size=log.num_items + 1, dtype=np.uint64)
    of_place = draw.integers(1 << 63, size=int(log.lengths.max(initial=1)), dtype=np.uint64) | np.uint64(1)
    place = np.arange(log.num_events) - log.begin
    terms = np.concatenate([[np.uint64(0)], np.cumsum(of_item[log.item_ids] * of_place[place], dtype=np.uint64)])
    history = terms[log.offsets[1:]] - terms[log.offsets[:-1]]  # wraps around, as a hash may
    _, inverse, count = np.unique(
        history ^ (log.lengths.astype(np.uint64) << np.uint64(40)), return_inverse=True, return_counts=True
    )
    return (count[inverse] > 1) & (log.lengths > 0)
