"""Log: the events that an audit reads, with what several of its parts need computed once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from recsys_lab.data.histories import is_first_occurrence, order_within_users
from recsys_lab.data.prepare.processed import ProcessedDataset


@dataclass(frozen=True)
class Log:
    """Events in CSR form: user `u` owns `offsets[u]:offsets[u + 1]`, oldest first.

    Args:
        item_ids: (E,) int, 1..num_items.
        offsets: (U + 1,) int64.
        num_items: size of the catalogue.
        timestamps: (E,) int64 seconds, in order within each user; None where the data has only an order.
        event_types: (E,) uint8, or None.
    """

    item_ids: np.ndarray
    offsets: np.ndarray
    num_items: int
    timestamps: np.ndarray | None = None
    event_types: np.ndarray | None = None

    @classmethod
    def of(cls, data: ProcessedDataset) -> Log:
        types = None if data.event_types is None else np.asarray(data.event_types)
        times = np.asarray(data.timestamps) if data.has_timestamps else None
        return cls(np.asarray(data.item_ids), np.asarray(data.offsets), data.num_items, times, types)

    @property
    def num_events(self) -> int:
        return len(self.item_ids)

    @property
    def num_users(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def lengths(self) -> np.ndarray:
        """(U,) events per user."""
        return np.diff(self.offsets)

    @cached_property
    def item_counts(self) -> np.ndarray:
        """(num_items + 1,) events per item; [0] is padding."""
        return np.bincount(self.item_ids, minlength=self.num_items + 1)

    @cached_property
    def begin(self) -> np.ndarray:
        """(E,) the flat position of the first event of each event's user."""
        return np.repeat(self.offsets[:-1], self.lengths)

    @cached_property
    def same_user(self) -> np.ndarray:
        """(E - 1,) bool: events n and n + 1 are of one user."""
        return self.begin[1:] == self.begin[:-1]

    @cached_property
    def pair_order(self) -> np.ndarray:
        """(E,) flat positions, each user's events sorted by item, and by position within an item."""
        return order_within_users(self.offsets, self.item_ids, self.num_items + 1)

    @cached_property
    def same_pair(self) -> np.ndarray:
        """(E - 1,) bool: neighbours n and n + 1 of `pair_order` are one user and one item."""
        items = self.item_ids[self.pair_order]  # `pair_order` keeps users in place, so `same_user` holds for it as well
        return self.same_user & (items[1:] == items[:-1])

    @cached_property
    def is_repeat(self) -> np.ndarray:
        """(E,) bool: the user has had the item before this event."""
        return ~is_first_occurrence(self.item_ids, self.offsets)

    @cached_property
    def is_tied(self) -> np.ndarray | None:
        """(E,) bool: another event of the user has the same time; None without time."""
        if self.timestamps is None:
            return None
        same = self.same_user & (self.timestamps[1:] == self.timestamps[:-1])
        return np.append(same, False) | np.insert(same, 0, False)
