"""JoinedEvents: the sorted, filtered events of all parts of a log as one, users in the order of their ids."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from recsys_lab.data.histories import positions
from recsys_lab.data.prepare.sorted_events import SortedEvents


class JoinedEvents(SortedEvents):
    """As `SortedEvents`, where each part has the events of other users. Nothing is copied: a block is put together when
    it is read.

    Args:
        parts: sorted, with `keep` and `user_counts` of what is left.
        codes: of each part the places of its users among all users, ascending.
        num_users, item_counts: of all.
    """

    def __init__(
        self, parts: list[SortedEvents], codes: list[np.ndarray], num_users: int, item_counts: np.ndarray
    ) -> None:
        super().__init__(Path(), num_users, 0)
        self.item_counts, self.parts, self.codes = item_counts, parts, codes
        for part, users in zip(parts, codes, strict=True):
            self.user_counts[users] = part.user_counts
        if parts:
            self._types, self._shapes = parts[0]._types, parts[0]._shapes
        self._last: tuple[tuple[int, int], np.ndarray] = ((-1, -1), np.zeros(0, np.int64))

    def read(self, name: str, start: int, stop: int) -> np.ndarray:
        pieces = []
        for part, (low, high) in self._rows(start, stop):
            values = part.read(name, low, high)
            pieces.append(values if (keep := part.keep[low:high]).all() else values[keep])
        joined: np.ndarray = np.concatenate(pieces)[self._order(start, stop)]
        return joined

    def read_series(self, name: str, start: int, stop: int) -> pl.Series:
        pieces = [
            part.read_series(name, low, high).filter(pl.Series(part.keep[low:high]))
            for part, (low, high) in self._rows(start, stop)
        ]
        return pl.concat(pieces).gather(self._order(start, stop))

    def _users(self, start: int, stop: int) -> list[slice]:
        """Of each part the users whose events begin there. `start` and `stop` are where users begin and end."""
        first, last = np.searchsorted(self.offsets, [start, stop])
        return [slice(*np.searchsorted(codes, [first, last])) for codes in self.codes]

    def _rows(self, start: int, stop: int) -> list[tuple[SortedEvents, tuple[int, int]]]:
        """Of each part that has some the events of these users, dropped ones too."""
        found = []
        for part, users in zip(self.parts, self._users(start, stop), strict=True):
            low, high = int(part.offsets[users.start]), int(part.offsets[users.stop])
            if low < high:
                found.append((part, (low, high)))
        return found

    def _order(self, start: int, stop: int) -> np.ndarray:
        """(n,) where each event of these users is, when those of the parts stand one after the other."""
        if self._last[0] != (start, stop):
            users = self._users(start, stop)
            codes = np.concatenate([codes[some] for codes, some in zip(self.codes, users, strict=True)])
            counts = np.concatenate([p.user_counts[some] for p, some in zip(self.parts, users, strict=True)])
            begins, order = np.cumsum(counts) - counts, np.argsort(codes)
            self._last = ((start, stop), positions(begins[order], counts[order]))
        return self._last[1]
