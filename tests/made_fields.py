"""A small prepared data set with fields of every kind and scope."""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

COLOURS, TAGS, AGES = ["red", "green", "blue", "never trained"], [10, 20, 30, 40], 60


@dataclass(frozen=True)
class Stored:
    name: str
    scope: str
    kind: str
    known_at: str = "before"
    num_values: int = 0
    width: int = 1
    from_events: bool = False


class WithFields:
    """A prepared data set with fields beside it, held in memory.

    raw: key -> (rows,) raw values. The last colour stands at the last event of each user that leave-one-out
    evaluates, and nowhere else: it is never trained.
    """

    def __init__(self, data: Any, seed: int = 0) -> None:
        self.data, rng = data, np.random.default_rng(seed)
        events, items, users = data.num_events, data.num_items, data.num_users
        colour = [None if draw == 3 else COLOURS[draw] for draw in rng.integers(4, size=events)]
        for begin, end in itertools.pairwise(np.asarray(data.offsets).tolist()):
            if end - begin >= 3:
                colour[end - 1] = COLOURS[3]
        price = np.where(rng.random(events) < 0.2, np.nan, rng.normal(50, 9, events)).astype(np.float32)
        tags = [sorted(rng.choice(TAGS, rng.integers(4), replace=False).tolist()) for _ in range(items)]
        vector = rng.normal(size=(items, 5)).astype(np.float32)
        self.raw: dict[str, pl.Series] = {
            "colour": pl.Series(colour),
            "price": pl.Series(price).fill_nan(None),
            "item.tags": pl.Series(tags, dtype=pl.List(pl.Int64)),
            "item.image": pl.Series(vector.tolist()),
            "item.price": pl.Series(rng.random(items), dtype=pl.Float32),
            "user.age": pl.Series([None, *rng.integers(18, AGES, users - 1).tolist()], dtype=pl.Float32),
            "note": pl.Series(["so so"] * events),
        }
        self._values = {"colour": pl.Series(COLOURS), "item.tags": pl.Series(TAGS)}
        lengths = self.raw["item.tags"].list.len().cast(pl.Int64).to_numpy()
        self._arrays = {
            "colour": np.array([0 if c is None else COLOURS.index(c) + 1 for c in colour], dtype=np.uint8),
            "price": price,
            "item.tags": np.array([TAGS.index(t) + 1 for own in tags for t in own], dtype=np.int32),
            "item.image": vector,
            "item.price": self.raw["item.price"].to_numpy(),
            "user.age": self.raw["user.age"].fill_null(float("nan")).to_numpy(),
        }
        # columns of the events that were declared to be of items or users
        self.event_arrays = {
            "item.brand": rng.integers(0, 5, events).astype(np.uint8),
            "user.mood": np.where(rng.random(events) < 0.3, np.nan, rng.random(events)).astype(np.float32),
            "item.labels": rng.integers(1, 5, int((counts := rng.integers(0, 3, events)).sum())).astype(np.uint8),
        }
        self._event_offsets = np.append(0, counts.cumsum()).astype(np.int64)
        self._values |= {"item.brand": pl.Series(["a", "b", "c", "d"]), "item.labels": pl.Series(TAGS)}
        # two impressions of three items for each user: at the time of the first event, and long after the last
        first = np.asarray(data.timestamps)[np.asarray(data.offsets)[:-1]]
        self.arrays = {
            "shown/users": np.repeat(np.arange(users), 2),
            "shown/timestamps": np.stack([first, first + 10**6], axis=1).flatten(),
            "shown/offsets": np.arange(0, 6 * users + 1, 3),
            "shown/item_ids": rng.integers(1, items + 1, 6 * users).astype(np.int32),
            "shown/labels": np.tile([1, 0, 0], 2 * users).astype(np.uint8),
        }
        self._arrays["shown.place"] = np.tile([1, 2, 3, 700, 800, 900], users).astype(np.float32)
        self._offsets = np.append(0, lengths.cumsum()).astype(np.int64)
        self.fields = {
            "colour": Stored("colour", "event", "categorical", "before", 4),
            "price": Stored("price", "event", "numeric", "query"),
            "item.tags": Stored("tags", "item", "multi", "before", 4, int(lengths.max())),
            "item.image": Stored("image", "item", "vector", width=5),
            "item.price": Stored("price", "item", "numeric"),
            "user.age": Stored("age", "user", "numeric"),
            "item.brand": Stored("brand", "item", "categorical", "before", 4, from_events=True),
            "item.labels": Stored("labels", "item", "multi", "before", 4, 2, from_events=True),
            "user.mood": Stored("mood", "user", "numeric", from_events=True),
            "shown.place": Stored("place", "shown", "numeric"),
            "note": Stored("note", "event", "text"),
        }

    def add(self, name: str, kind: str, codes: np.ndarray, values: pl.Series) -> None:
        """One more field of the events."""
        self._arrays[name], self._values[name] = codes, values
        self.fields[name] = Stored(name, "event", kind, num_values=len(values))

    def field_array(self, key: str) -> np.ndarray:
        return self._arrays[key]

    def field_hash(self, key: str) -> str:
        return hashlib.sha256(self._arrays.get(key, self.event_arrays.get(key)).tobytes()).hexdigest()

    def event_array(self, key: str) -> np.ndarray:
        return self.event_arrays[key]

    def event_offsets(self, key: str) -> np.ndarray:
        return self._event_offsets

    def field_offsets(self, key: str) -> np.ndarray:
        return self._offsets

    def field_values(self, key: str) -> pl.Series:
        return self._values[key]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["data"], name)
