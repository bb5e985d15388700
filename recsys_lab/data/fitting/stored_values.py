"""FieldValues: the stored values of a field, one row for each event, item, user or shown item."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from recsys_lab.data.batches.field_columns import view

AT_ONCE = 1 << 22
"""Rows that are looked at in one piece."""

Rows = Iterable[tuple[slice, np.ndarray]]
"""Pieces of the rows of a scope, and (rows,) bool in each: those of the training part."""


@dataclass(frozen=True)
class FieldValues:
    """As `StoredField` says: codes (0 = missing), numbers (NaN = missing) or vectors of R rows; of a field with several
    values in a row the codes of all rows, and `offsets` (R + 1,)."""

    array: np.ndarray
    offsets: np.ndarray | None = None

    def in_rows(self, piece: slice, wanted: np.ndarray) -> np.ndarray:
        """The values of the rows of a piece that are wanted (rows,)."""
        if self.offsets is None:
            return self.array[piece][wanted]
        offsets = self.offsets[piece.start : piece.stop + 1]
        found: np.ndarray = self.array[int(offsets[0]) : int(offsets[-1])][np.repeat(wanted, np.diff(offsets))]
        return found

    def has_value(self, piece: slice) -> np.ndarray:
        """(rows,) bool."""
        if self.offsets is not None:
            return np.diff(self.offsets[piece.start : piece.stop + 1]) > 0
        values = self.array[piece]
        if values.dtype.kind != "f":
            return values > 0
        return ~np.isnan(values if values.ndim == 1 else values[:, 0])

    def take(self, rows: np.ndarray) -> FieldValues:
        """(R',) rows, -1 = missing -> their values, held in memory."""
        is_there = rows >= 0
        if self.offsets is not None:
            start, stop = self.offsets[rows] * is_there, self.offsets[rows + 1] * is_there
            ends = np.cumsum(stop - start)
            place = np.arange(ends[-1]) + np.repeat(start - (ends - (stop - start)), stop - start)
            return FieldValues(self.array[place], np.append(0, ends).astype(np.int64))
        found = self.array[rows]
        found[~is_there] = 0 if found.dtype.kind != "f" else np.nan
        return FieldValues(found)


def training_events(offsets: np.ndarray, train_stop: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Pieces of the events, and which of each train: those of user u from `offsets[u]` to `train_stop[u]`."""
    total = int(offsets[-1])
    for start in range(0, total, AT_ONCE):
        stop = min(start + AT_ONCE, total)
        first, last = np.searchsorted(offsets, [start, stop - 1], side="right") - 1
        bounds = np.clip(offsets[first : last + 2], start, stop)
        until = np.repeat(train_stop[first : last + 1], np.diff(bounds))
        yield slice(start, stop), np.arange(start, stop) < until


def values_of(data: Any, key: str, train_stop: np.ndarray) -> FieldValues:
    """The values of a field, mapped from the disk. Of a column of the events that was declared to be of items or users,
    in memory: the value of each one's last training event that has one.

    Args:
        data: `ProcessedDataset`.
        train_stop: (U,) int64 of the split.
    """
    stored = data.fields[key]
    if not stored.from_events:
        offsets = np.asarray(data.field_offsets(key)) if stored.kind == "multi" else None
        return FieldValues(view(data.field_array(key)), offsets)
    of_events = FieldValues(
        np.asarray(data.event_array(key)), np.asarray(data.event_offsets(key)) if stored.kind == "multi" else None
    )
    return of_events.take(_last_training_events(data, stored.scope, of_events, train_stop))


def _last_training_events(data: Any, scope: str, values: FieldValues, train_stop: np.ndarray) -> np.ndarray:
    """(R,) of each item or user: its newest training event that has a value; -1 where there is none. Of events of one
    time, and where there is no time, the later one in the data."""
    offsets, of_items = np.asarray(data.offsets), scope == "item"
    by_time = of_items and data.has_timestamps
    last = np.full(data.num_items if of_items else data.num_users, -1, dtype=np.int64)
    times = np.asarray(data.timestamps)
    for piece, trains in training_events(offsets, train_stop):
        position = np.flatnonzero(trains & values.has_value(piece)) + piece.start
        if by_time:
            position = position[np.argsort(times[position], kind="stable")]
        if of_items:
            owner = data.item_ids[position].astype(np.int64) - 1
        else:
            owner = np.searchsorted(offsets, position, side="right") - 1
        found = np.full_like(last, -1)
        found[owner] = position  # of several the last one stays
        newer = (found >= 0) & ((last < 0) | (not by_time) | (times[found] >= times[last]))
        last[newer] = found[newer]
    return last


def impression_parts(data: Any, offsets: np.ndarray, split: Any) -> np.ndarray:
    """(I,) int8 of each impression: 0 = it trains, 1 = validation, 2 = test. By time: from the split's cut before the
    validation part, and the one before the test part; where a split has no cut, by the user's own held-out events.

    Args:
        split: `SplitResult`. Without a validation part all that doesn't train is test.
    """
    times, users = np.asarray(data.arrays["shown/timestamps"]), np.asarray(data.arrays["shown/users"])
    trains = training_impressions(data, offsets, split.train_stop, split.cut_time)
    if not len(split.val):
        is_test = ~trains
    elif split.cut_time is not None and split.final is not None and split.final.cut_time is not None:
        is_test = times >= split.final.cut_time
    else:
        first = np.full(len(offsets) - 1, np.iinfo(np.int64).max)
        np.minimum.at(first, split.test.user_index, np.asarray(data.timestamps)[split.test.position])
        is_test = times >= first[users]
    return np.where(trains, 0, np.where(is_test, 2, 1)).astype(np.int8)


def training_impressions(data: Any, offsets: np.ndarray, train_stop: np.ndarray, cut_time: int | None) -> np.ndarray:
    """(I,) bool: which impressions come before what is held out: before the split's cut in time where it has one, else
    before the first event of their user that does not train."""
    times, users = np.asarray(data.arrays["shown/timestamps"]), np.asarray(data.arrays["shown/users"])
    if cut_time is not None:
        return times < cut_time
    held_out = np.append(np.asarray(data.timestamps), 0)[train_stop]
    return (train_stop[users] == offsets[1:][users]) | (times < held_out[users])
