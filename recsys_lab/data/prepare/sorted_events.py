"""Coded events in order, in files: what `prepare` works on between reading a source and writing the prepared set."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

ABOUT, USER_COUNTS = "about.json", "user_counts.npy"
BLOCK_EVENTS = 1 << 22
"""Events that are in memory at once (more where one user has more): 100 MB with what is computed from them."""


class SortedEvents:
    """Events sorted by user, time and tie order, users back to back (CSR), one flat file per column; lists and text are
    one Arrow file per call of `append`.

    Read with `blocks`, so that memory is that of one block. What stays in memory: a number per user and item, and a
    bool per event. Filters drop events by `Block.drop`; the files stay as they are.

    Args:
        folder: Where the files go; they belong to whoever made the folder.
        num_users: User codes are 0..num_users - 1.
        num_items: Item codes are 0..num_items - 1.
        in_memory: All events come in one call of `append` and are few enough to be one block: no files.

    Attributes:
        offsets: (num_users + 1,) int64: user code u owns the events [offsets[u], offsets[u + 1]) of the files.
        keep: (E,) bool: which events are left.
        user_counts: (num_users,) int64 events that are left of each user.
        item_counts: (num_items,) int64 events that are left of each item.
    """

    def __init__(self, folder: Path, num_users: int, num_items: int, in_memory: bool = False) -> None:
        self.folder, self.in_memory = folder, in_memory
        self._held: dict[str, Any] = {}
        self.user_counts, self.item_counts = np.zeros(num_users, np.int64), np.zeros(num_items, np.int64)
        self._types: dict[str, np.dtype[Any]] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}  # of one event
        self._ends = [0]  # events after each call of `append`

    def save(self) -> None:
        """Notes beside the files what `load` needs."""
        types = {name: [dtype.str, list(self._shapes[name])] for name, dtype in self._types.items()}
        (self.folder / ABOUT).write_text(json.dumps({"types": types, "ends": self._ends}))
        np.save(self.folder / USER_COUNTS, np.diff(self.offsets))

    @classmethod
    def load(cls, folder: Path, num_items: int = 0) -> SortedEvents:
        """All events that lie in `folder`; what filters dropped is not noted. item_counts: zeros."""
        about = json.loads((folder / ABOUT).read_text())
        counts = np.load(folder / USER_COUNTS)
        events = cls(folder, len(counts), num_items)
        events.user_counts = counts
        events._types = {name: np.dtype(dtype) for name, (dtype, _) in about["types"].items()}
        events._shapes = {name: tuple(shape) for name, (_, shape) in about["types"].items()}
        events._ends = about["ends"]
        return events

    def append(self, frame: pl.DataFrame) -> None:
        """Adds whole users behind those that are there: sorted `user` (codes), `item`, and any other columns."""
        for name, dtype in frame.schema.items():
            if dtype == pl.String or isinstance(dtype, pl.List):
                self._append_series(name, frame[name])
                continue
            values = frame[name].to_numpy()  # null becomes NaN
            if name == "user":
                self.user_counts += np.bincount(values, minlength=len(self.user_counts))
                continue
            if name == "item":
                self.item_counts += np.bincount(values, minlength=len(self.item_counts))
            self._types[name], self._shapes[name] = values.dtype, values.shape[1:]
            if self.in_memory:
                self._held[name] = values
                continue
            # not ndarray.tofile: it reports a full disk as an OSError without a number
            with open(self.folder / name, "ab") as file:
                file.write(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)
        self._ends.append(self._ends[-1] + frame.height)

    def _append_series(self, name: str, values: pl.Series) -> None:
        if self.in_memory:
            self._held[name] = values
        else:
            values.to_frame().write_ipc(self.folder / f"{name}.{len(self._ends) - 1}")

    @cached_property
    def offsets(self) -> np.ndarray:
        return np.concatenate([[0], np.cumsum(self.user_counts)])

    @cached_property
    def keep(self) -> np.ndarray:
        return np.ones(self.offsets[-1], dtype=bool)

    @property
    def columns(self) -> list[str]:
        return list(self._types)

    def is_float(self, name: str) -> bool:
        return self._types[name].kind == "f"

    @property
    def num_kept(self) -> int:
        return int(self.user_counts.sum())

    def blocks(self) -> Iterator[Block]:
        """All events, some whole users at a time."""
        offsets, first = self.offsets, 0
        while first < len(offsets) - 1:
            reach = int(np.searchsorted(offsets, offsets[first] + BLOCK_EVENTS, side="right")) - 1
            stop = max(first + 1, reach)
            yield Block(self, first, stop)
            first = stop

    def read(self, name: str, start: int, stop: int) -> np.ndarray:
        """(stop - start,) or (stop - start, D) values of a column. Read, not mapped: mapped pages would count as
        memory of this process."""
        if self.in_memory:
            return self._held[name][start:stop]
        dtype, shape = self._types[name], self._shapes[name]
        width = math.prod(shape)
        with open(self.folder / name, "rb") as file:
            values = np.fromfile(file, dtype, (stop - start) * width, offset=start * width * dtype.itemsize)
        return values.reshape(-1, *shape)

    def read_series(self, name: str, start: int, stop: int) -> pl.Series:
        """(stop - start,) lists or texts of a column."""
        if self.in_memory:
            return self._held[name][start:stop]
        parts = []
        for number in range(len(self._ends) - 1):
            first, end = self._ends[number : number + 2]
            low, high = max(start, first), min(stop, end)
            if low < high:
                part = pl.scan_ipc(self.folder / f"{name}.{number}").slice(low - first, high - low)
                parts.append(part.collect(engine="streaming")[name])
        return pl.concat(parts)


class Block:
    """The events of the users [first, stop)."""

    def __init__(self, events: SortedEvents, first: int, stop: int) -> None:
        self.events, self._first, self._stop = events, first, stop
        self.offsets = events.offsets[first : stop + 1] - events.offsets[first]  # (users + 1,) within the block
        self._slice = slice(int(events.offsets[first]), int(events.offsets[stop]))

    @property
    def keep(self) -> np.ndarray:
        """(n,) bool view: which events are left."""
        return self.events.keep[self._slice]

    @property
    def user_counts(self) -> np.ndarray:
        """(users,) int64 view: how many events are left."""
        return self.events.user_counts[self._first : self._stop]

    @cached_property
    def item(self) -> np.ndarray:
        """(n,) uint32 item codes of all events, dropped ones too."""
        return self.read("item")

    def read(self, name: str) -> np.ndarray:
        """(n,) values of all events, dropped ones too."""
        return self.events.read(name, self._slice.start, self._slice.stop)

    def kept(self, name: str) -> np.ndarray:
        """(n left,) values of the events that are left."""
        values = self.item if name == "item" else self.read(name)
        return values if self.user_counts.sum() == len(values) else values[self.keep]

    def kept_series(self, name: str) -> pl.Series:
        """(n left,) lists or texts of the events that are left."""
        values = self.events.read_series(name, self._slice.start, self._slice.stop)
        return values if self.user_counts.sum() == len(values) else values.filter(pl.Series(self.keep))

    def kept_users(self) -> np.ndarray:
        """(n left,) int64 user codes of the events that are left."""
        return np.repeat(np.arange(self._first, self._stop), self.user_counts)

    def users_of(self, position: np.ndarray) -> np.ndarray:
        """(m,) ascending positions in the block -> (m,) int64 users, counted from the block's first."""
        return np.searchsorted(self.offsets, position, side="right") - 1

    def spread(self, per_user: np.ndarray) -> np.ndarray:
        """(users,) values -> (n,): that of its user for each event."""
        return np.repeat(per_user, np.diff(self.offsets))

    def drop(self, position: np.ndarray) -> None:
        """Drops events at (m,) ascending positions in the block; none of them is dropped already."""
        if len(position):
            self.keep[position] = False
            self.user_counts[:] -= np.bincount(self.users_of(position), minlength=self._stop - self._first)
            self.events.item_counts -= np.bincount(self.item[position], minlength=len(self.events.item_counts))
