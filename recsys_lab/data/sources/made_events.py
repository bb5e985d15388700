"""Made-up interactions with a known best possible score: what a perfect next-item model would reach."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from recsys_lab.data.histories import positions
from recsys_lab.data.reading.source import RawTables, Source
from recsys_lab.words import ITEM_ID, TIMESTAMP, USER_ID, RecsysLabError

START = 1_700_000_000  # unix seconds
DAY = 86_400
CHUNK_CELLS = 1 << 24  # users x items of the "seen" table that are worked on at once
QUICK_DRAWS = 6  # rejected draws are repeated this often before the exact distribution is computed


@dataclass(frozen=True)
class Synthetic(Source):
    """Users who each walk a first-order Markov chain over the items.

    After item i comes, with probability 1 - noise, one of its `num_successors` successors (probabilities 1, 1/2, 1/3,
    .., normalised), and otherwise any item by popularity (1/rank, normalised). Unless `repeats`, a user never sees an
    item twice: the same probabilities, renormalised over the unseen items. `best_possible` is then the score of the
    model that knows all this, and no model can expect more, whether it hides seen items or not.

    Attributes:
        num_users: Users.
        num_items: Items.
        mean_length: Mean events per user; lengths are uniform in mean_length/2 .. 3*mean_length/2.
        num_successors: Items that often follow an item.
        noise: Probability of an item by popularity instead of a successor.
        repeats: Whether a user may see an item again.
        seed: Another seed makes another world: other successors, other users.
    """

    num_users: int = 1_000
    num_items: int = 500
    mean_length: int = 50
    num_successors: int = 5
    noise: float = 0.2
    repeats: bool = False
    seed: int = 0

    name = "synthetic"
    licence = "made by recsys_lab, free to use"
    homepage = "built in"
    citation = "recsys_lab, data/sources/made_events.py"

    def __post_init__(self) -> None:
        if self.num_users < 1 or self.mean_length < 2:
            raise RecsysLabError("synthetic: num_users must be at least 1 and mean_length at least 2")
        if not 1 <= self.num_successors < self.num_items:
            raise RecsysLabError(f"synthetic: num_successors must be in 1..num_items - 1 = {self.num_items - 1}")
        if not 0 < self.noise < 1:
            raise RecsysLabError(f"synthetic: noise is {self.noise}; it must be between 0 and 1")
        if not self.repeats and self.num_items < 3 * self.mean_length:
            raise RecsysLabError(
                f"synthetic: {self.num_items} items are too few for {self.mean_length} events per user without "
                f"repeats; use at least {3 * self.mean_length} items"
            )

    @property
    def urls(self) -> tuple[str, ...]:
        return ()

    @property
    def checked_by(self) -> str:
        return "made from its seed"

    @property
    def has_timestamps(self) -> bool:
        return True

    @property
    def default_settings(self) -> dict[str, Any]:
        return {}

    def tables(self, raw_dir: Path) -> RawTables:
        """Raw ids are the numbers 1..num_users and 1..num_items; `raw_dir` is not used."""
        world = self.world()
        user = np.repeat(np.arange(1, self.num_users + 1), np.diff(world.offsets))
        frame = pl.DataFrame({USER_ID: user, ITEM_ID: world.item_ids.astype(np.int64) + 1, TIMESTAMP: world.timestamps})
        return RawTables(frame.with_row_index("order").lazy())

    def fingerprint(self, raw_dir: Path) -> str:
        """Of the events themselves: numpy may draw other numbers one day."""
        world = self.world()
        return hashlib.sha256(
            world.item_ids.tobytes() + world.offsets.tobytes() + world.timestamps.tobytes()
        ).hexdigest()

    def world(self) -> World:
        """The successors, the popularity and the events; made once per process."""
        return _make_world(self)

    def best_possible(self, k: int, from_end: int = 1) -> dict[str, float]:
        """Expected `hit_rate@k`, `ndcg@k` and `mrr@k` of the model that knows the transition probabilities.

        The mean over users, each given the history before the target, of the exact expectation over what may come
        next. The score on the targets that did come differs from it by chance: about 0.5 / sqrt(num_users).

        Args:
            k: Cutoff.
            from_end: Which event of each user is the target: 1 the last (leave-one-out test), 2 the one before (val).
        """
        if not 1 <= k <= self.num_items:
            raise RecsysLabError(f"k is {k}; it must be in 1..num_items = {self.num_items}")
        rank = np.arange(1, k + 1)
        gains = {"hit_rate": np.ones(k), "ndcg": 1 / np.log2(rank + 1), "mrr": 1 / rank}
        totals = dict.fromkeys(gains, 0.0)
        for probabilities, _ in self._queries(from_end):
            best = -np.sort(np.partition(-probabilities, k - 1, axis=1)[:, :k], axis=1)  # (chunk, k)
            for name, gain in gains.items():
                totals[name] += float((best @ gain).sum())
        return {f"{name}@{k}": total / self.num_users for name, total in totals.items()}

    def oracle_ranks(self, from_end: int = 1) -> np.ndarray:
        """(num_users,) float32 rank of the event that did come, for the model that knows the probabilities."""
        ranks = []
        for probabilities, target in self._queries(from_end):
            of_target = np.take_along_axis(probabilities, target[:, None], axis=1)
            above, ties = (probabilities > of_target).sum(1), (probabilities == of_target).sum(1) - 1
            ranks.append((1 + above + ties / 2).astype(np.float32))
        return np.concatenate(ranks)

    def _queries(self, from_end: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Per chunk of users: (chunk, num_items) probabilities of the next item, and (chunk,) the item that came."""
        world = self.world()
        if not 1 <= from_end < np.diff(world.offsets).min():
            raise RecsysLabError(f"from_end is {from_end}; every user must have an event before that one")
        size = max(1, CHUNK_CELLS // self.num_items)
        for first in range(0, self.num_users, size):
            begin, stop = world.offsets[:-1][first : first + size], world.offsets[1:][first : first + size] - from_end
            seen = np.zeros((len(begin), self.num_items), dtype=bool)
            if not self.repeats:
                lengths = stop - begin
                row = np.repeat(np.arange(len(begin)), lengths)
                seen[row, world.item_ids[positions(begin, lengths)]] = True
            yield world.next_probabilities(world.item_ids[stop - 1], seen), world.item_ids[stop]


@dataclass(frozen=True)
class World:
    """One drawn world. Items are 0-based here."""

    successors: np.ndarray  # (num_items, S) int64
    successor_probabilities: np.ndarray  # (S,) sum = 1 - noise
    popularity: np.ndarray  # (num_items,) sum = noise
    item_ids: np.ndarray  # (E,) int32, users back to back
    timestamps: np.ndarray  # (E,) int64
    offsets: np.ndarray  # (U + 1,) int64

    def next_probabilities(self, previous: np.ndarray, seen: np.ndarray) -> np.ndarray:
        """previous (n,) items, seen (n, num_items) bool -> (n, num_items) float64, rows sum to 1."""
        return _next_probabilities(self.successors, self.successor_probabilities, self.popularity, previous, seen)


def _next_probabilities(
    successors: np.ndarray, weights: np.ndarray, popularity: np.ndarray, previous: np.ndarray, seen: np.ndarray
) -> np.ndarray:
    probabilities = np.repeat(popularity[None], len(previous), axis=0)
    rows = np.arange(len(previous))[:, None]
    probabilities[rows, successors[previous]] += weights  # the successors of an item are distinct
    probabilities[seen] = 0.0
    return probabilities / probabilities.sum(1, keepdims=True)


@functools.lru_cache(maxsize=2)
def _make_world(spec: Synthetic) -> World:
    rng = np.random.default_rng(spec.seed)
    weights = 1 / np.arange(1, spec.num_successors + 1)
    weights *= (1 - spec.noise) / weights.sum()
    popularity = rng.permutation(1 / np.arange(1, spec.num_items + 1))
    popularity *= spec.noise / popularity.sum()
    successors = _draw_successors(rng, spec.num_items, spec.num_successors)

    lengths = rng.integers(max(2, spec.mean_length // 2), 3 * spec.mean_length // 2 + 1, spec.num_users)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    walks = []
    size = max(1, CHUNK_CELLS // spec.num_items)
    for first in range(0, spec.num_users, size):
        walks.append(_walk(rng, lengths[first : first + size], successors, weights, popularity, spec.repeats))
    gaps = 1 + rng.exponential(2 * DAY, offsets[-1]).astype(np.int64)
    elapsed = np.cumsum(gaps)
    begin = START + rng.integers(0, 180 * DAY, spec.num_users)
    timestamps = elapsed - np.repeat(elapsed[offsets[:-1]] - begin, lengths)
    return World(successors, weights, popularity, np.concatenate(walks), timestamps, offsets)


def _draw_successors(rng: np.random.Generator, num_items: int, count: int) -> np.ndarray:
    """(num_items, count) int64: distinct items per row, none its own successor."""
    successors = rng.integers(0, num_items, (num_items, count))
    own = np.arange(num_items)[:, None]
    while True:
        ordered = np.sort(np.concatenate([successors, own], axis=1), axis=1)
        bad = (ordered[:, 1:] == ordered[:, :-1]).any(1)
        if not bad.any():
            return successors
        if count * 4 > num_items:  # few items: repeating the draw would take for ever
            successors[bad] = np.array(
                [rng.permutation(np.delete(own[:, 0], row))[:count] for row in np.flatnonzero(bad)]
            )
        else:
            successors[bad] = rng.integers(0, num_items, (bad.sum(), count))


def _walk(
    rng: np.random.Generator,
    lengths: np.ndarray,
    successors: np.ndarray,
    weights: np.ndarray,
    popularity: np.ndarray,
    repeats: bool,
) -> np.ndarray:
    """(sum of lengths,) int32 items, users back to back. One step of all users at a time, the longest users first."""
    by_length = np.argsort(-lengths, kind="stable")
    active = np.searchsorted(-lengths[by_length], -np.arange(lengths.max()), side="left")  # users with an event t
    seen = np.zeros((len(lengths), len(popularity)), dtype=bool)
    items = np.zeros((len(lengths), lengths.max()), dtype=np.int32)
    by_popularity = np.cumsum(popularity / popularity.sum())
    by_successor = np.cumsum(weights)  # ends at 1 - noise: a draw beyond it is by popularity

    def draw(previous: np.ndarray) -> np.ndarray:
        drawn = np.minimum(np.searchsorted(by_popularity, rng.random(len(previous))), len(popularity) - 1)
        which = np.searchsorted(by_successor, rng.random(len(previous)))
        follows = which < len(weights)
        drawn[follows] = successors[previous[follows], which[follows]]
        return drawn

    items[:, 0] = np.minimum(np.searchsorted(by_popularity, rng.random(len(lengths))), len(popularity) - 1)
    for step in range(1, items.shape[1]):
        rows = np.arange(active[step])
        previous = items[rows, step - 1]
        if repeats:
            items[rows, step] = draw(previous)
            continue
        seen[rows, previous] = True
        pending = rows
        for _ in range(QUICK_DRAWS):  # rejection: exactly the distribution over the unseen items
            drawn = draw(previous[pending])
            new = ~seen[pending, drawn]
            items[pending[new], step] = drawn[new]
            pending = pending[~new]
        if len(pending):
            exact = _next_probabilities(successors, weights, popularity, previous[pending], seen[pending]).cumsum(1)
            below = (exact < rng.random((len(pending), 1)) * exact[:, -1:]).sum(1)
            items[pending, step] = below
    unsorted = np.empty_like(items)
    unsorted[by_length] = items
    return unsorted[np.arange(items.shape[1]) < lengths[:, None]]
