"""KnownWorld: made-up events drawn from known probabilities, so that the best possible score is known, too."""

from __future__ import annotations

import functools
import hashlib
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from recsys_lab.data.reading.source import RawTables, Source
from recsys_lab.words import EVENT_TYPE, ITEM_ID, TIMESTAMP, USER_ID, RecsysLabError

START = 1_704_067_200  # unix seconds, a midnight
HOUR = 3_600
CHUNK = 1_000  # users that are worked on at once


class Events(NamedTuple):
    """Events of some users, the oldest first; items are 0-based here."""

    items: np.ndarray  # (U, t) int64
    times: np.ndarray  # (U, t) int64 seconds
    kinds: np.ndarray  # (U, t) int64, of behaviours; zeros where the world has one only


@dataclass(frozen=True)
class KnownWorld(Source):
    """Users whose next item is drawn from `next_probabilities` of their history, one event after the other.

    A world says what may come next, and everything else follows: the events, and the best score that a model can
    expect, which is that of the one that knows these probabilities. Items may come again: evaluate with
    `exclude_seen: none`.

    Attributes:
        num_users: Users.
        num_items: Items.
        length: Events of the longest histories; the shortest have half of them.
        noise: Probability of an item by popularity (1/rank, normalised) instead of what the world says.
        seed: Another seed makes another world.
    """

    num_users: int = 4_000
    num_items: int = 100
    length: int = 30
    noise: float = 0.1
    seed: int = 0

    licence = "made by recsys_lab, free to use"
    homepage = "built in"
    citation = "recsys_lab, data/sources/worlds"
    urls = ()
    checked_by = "made from its seed"
    has_timestamps = True

    def __post_init__(self) -> None:
        if self.num_users < 1 or self.length < 6 or self.num_items < 2:
            raise RecsysLabError(f"{self.name}: it takes a user, 2 items, and a length of 6 events at least")
        if not 0 <= self.noise < 1:
            raise RecsysLabError(f"{self.name}: noise is {self.noise}; it must be at least 0 and below 1")

    # -- what a world says ---------------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def name(self) -> str:  # type: ignore[override]
        """As `--data.dataset` takes it."""

    @abstractmethod
    def rules(self, draw: np.random.Generator) -> Any:
        """What is drawn once for the whole world (successors, ...), and given to `next_probabilities`."""

    @abstractmethod
    def next_probabilities(self, rules: Any, past: Events) -> np.ndarray:
        """(U, num_items) without noise; rows sum to 1. `past` has at least one event."""

    def gaps(self, draw: np.random.Generator) -> np.ndarray:
        """(num_users, length) int64 seconds between neighbouring events; the first is from START."""
        return HOUR * draw.integers(1, 25, (self.num_users, self.length))

    def behaviours(self, draw: np.random.Generator) -> np.ndarray:
        """(num_users, length) int64 of each event."""
        return np.zeros((self.num_users, self.length), dtype=np.int64)

    @property
    def shortest(self) -> int:
        """Events of the shortest history."""
        return self.length // 2

    # -- what follows --------------------------------------------------------------------------------------------------

    def drawn(self) -> Events:
        """(num_users, length) of all that was drawn; made once in a process. A user's log begins at `begins`."""
        return _made(self).events

    def begins(self) -> np.ndarray:
        """(num_users,) the first event of each user that is in the log."""
        return _made(self).begins

    def tables(self, raw_dir: Path) -> RawTables:
        """Raw ids are the numbers 1..num_users and 1..num_items; `raw_dir` is not used."""
        events, begins = self.drawn(), self.begins()
        user, place = np.nonzero(np.arange(self.length) >= begins[:, None])  # each (E,), users back to back
        columns = {
            USER_ID: user + 1,
            ITEM_ID: events.items[user, place] + 1,
            TIMESTAMP: events.times[user, place],
        }
        frame = pl.DataFrame(columns)
        if events.kinds.any():
            kinds = pl.Series(events.kinds[user, place])
            frame = frame.with_columns(pl.format("behaviour {}", kinds).alias(EVENT_TYPE))
        return RawTables(frame.with_row_index("order").lazy())

    def fingerprint(self, raw_dir: Path) -> str:
        """Of the events themselves: numpy may draw other numbers one day."""
        return hashlib.sha256(b"".join(part.tobytes() for part in (*self.drawn(), self.begins()))).hexdigest()

    def probabilities(self, past: Events) -> np.ndarray:
        """(U, num_items) of what comes next, noise included; rows sum to 1."""
        made = _made(self)
        return self._with_noise(made.rules, made.popularity, past)

    def best_possible(self, k: int = 10, from_end: int = 1) -> dict[str, float]:
        """Expected `hit_rate@k` and `ndcg@k` of the model that knows the probabilities: exact for the histories of this
        world, the mean over its users. What such a model then scores on the items that did come differs by chance, with
        the standard errors `hit_rate@k_error` and `ndcg@k_error`.

        Args:
            k: cutoff.
            from_end: which event of each user is the target: 1 the last (leave-one-out test), 2 the one before (val).
        """
        if not 1 <= k <= self.num_items:
            raise RecsysLabError(f"k is {k}; it must be in 1..num_items = {self.num_items}")
        gains = {"hit_rate": np.ones(k), "ndcg": 1 / np.log2(np.arange(2, k + 2))}
        sums = dict.fromkeys([f"{name}@{k}" for name in gains] + [f"{name}@{k}_error" for name in gains], 0.0)
        for probabilities, _ in self.queries(from_end):
            best = -np.sort(-probabilities, axis=1)[:, :k]  # (chunk, k)
            for name, gain in gains.items():
                mean = best @ gain
                sums[f"{name}@{k}"] += float(mean.sum()) / self.num_users
                sums[f"{name}@{k}_error"] += float((best @ gain**2 - mean**2).sum()) / self.num_users**2
        return {name: value**0.5 if name.endswith("_error") else value for name, value in sums.items()}

    def best_scores(self) -> dict[str, Any]:
        """For the last two events of each user, which leave-one-out predicts."""
        test, val = self.best_possible(), self.best_possible(from_end=2)
        return {
            "num_events": int((self.length - self.begins()).sum()),
            "exclude_seen": "none",
            "test": test,
            "val": val,
        }

    def best_counts(self, from_end: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """(num_users,) `num_greater` and `num_ties` of the event that did come, for the model that knows the
        probabilities. It ranks them in float32, as all scores are."""
        counts = []
        for exact, came in self.queries(from_end):
            probabilities = exact.astype(np.float32)
            own = np.take_along_axis(probabilities, came[:, None], axis=1)
            counts.append(np.stack([(probabilities > own).sum(1), (probabilities == own).sum(1) - 1]))
        greater, ties = np.concatenate(counts, axis=1)
        return greater, ties

    def queries(self, from_end: int = 1) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Per chunk of users: (chunk, num_items) probabilities of the next item, and (chunk,) the item that came."""
        if not 1 <= from_end < self.shortest:
            raise RecsysLabError(f"from_end is {from_end}; every user must have an event before that one")
        events, place = self.drawn(), self.length - from_end
        for first in range(0, self.num_users, CHUNK):
            past = Events(*(part[first : first + CHUNK, :place] for part in events))
            yield self.probabilities(past), events.items[first : first + CHUNK, place]

    def _with_noise(self, rules: Any, popularity: np.ndarray, past: Events) -> np.ndarray:
        return (1 - self.noise) * self.next_probabilities(rules, past) + self.noise * popularity


def zipf(number: int) -> np.ndarray:
    """(number,) 1/rank, normalised."""
    weights = 1 / np.arange(1, number + 1)
    return weights / weights.sum()


def drawn(draw: np.random.Generator, probabilities: np.ndarray) -> np.ndarray:
    """(U, n) rows that sum to 1 -> (U,) one index each."""
    up_to = probabilities.cumsum(axis=1)
    return (up_to < draw.random((len(up_to), 1)) * up_to[:, -1:]).sum(axis=1)


@dataclass(frozen=True)
class _Made:
    rules: Any
    popularity: np.ndarray  # (num_items,)
    events: Events
    begins: np.ndarray  # (num_users,)


@functools.lru_cache(maxsize=4)
def _made(world: KnownWorld) -> _Made:
    draw = np.random.default_rng(world.seed)
    popularity = draw.permutation(zipf(world.num_items))
    rules = world.rules(draw)
    times = START + world.gaps(draw).cumsum(axis=1)
    kinds = world.behaviours(draw)
    items = np.zeros((world.num_users, world.length), dtype=np.int64)
    items[:, 0] = drawn(draw, np.repeat(popularity[None], world.num_users, axis=0))
    for place in range(1, world.length):
        for first in range(0, world.num_users, CHUNK):
            rows = slice(first, first + CHUNK)
            past = Events(items[rows, :place], times[rows, :place], kinds[rows, :place])
            items[rows, place] = drawn(draw, world._with_noise(rules, popularity, past))
    # Histories of one length would have every target at positions that no training window reaches.
    begins = draw.integers(0, world.length - world.shortest + 1, world.num_users)
    return _Made(rules, popularity, Events(items, times, kinds), begins)
