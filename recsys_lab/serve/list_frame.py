"""Lists of many users, and what a caller gets of them: a frame, or plain values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from torch import Tensor

from recsys_lab.serve.histories import Histories
from recsys_lab.serve.item_choice import ItemChoice
from recsys_lab.serve.item_ids import ItemIds
from recsys_lab.words import PAD_ID, RecsysLabError

NAMES = ["model", "popularity"]
SOURCES = pl.Series(NAMES, dtype=pl.Enum(NAMES))
NO_NOTE = pl.Series([None], dtype=pl.String)
RANKS = pl.Series(np.arange(1, 1025, dtype=np.int32))
"""Of one list: making them anew takes a twentieth of the time that the list of one user takes."""


@dataclass(frozen=True)
class Lists:
    """items: (U, K) int32 rows of the item table, `PAD_ID` where no more are left. scores: (U, K) float32."""

    items: np.ndarray
    scores: np.ndarray

    @classmethod
    def empty(cls, users: int, k: int) -> Lists:
        return cls(np.full((users, k), PAD_ID, dtype=np.int32), np.full((users, k), -np.inf, dtype=np.float32))

    def put(self, users: np.ndarray, items: Tensor, scores: Tensor) -> None:
        self.items[users], self.scores[users] = items.numpy(force=True), scores.numpy(force=True)

    def repeat(self, first: np.ndarray, users: np.ndarray) -> None:
        """All `users` get the list of the first of them, where that is the only one that was made."""
        if len(first) < len(users):
            self.items[users], self.scores[users] = self.items[first[0]], self.scores[first[0]]


def check_k(k: Any) -> None:
    """Raises RecsysLabError for what is no length of a list."""
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
        raise RecsysLabError(f"k must be a whole number from 1 on, not {k!r}")


@dataclass(frozen=True)
class UserLists:
    """Lists, and what is to be said of them.

    Args:
        users: (n,) which of `read` the lists are of. k: items that were asked for.
    """

    read: Histories
    users: np.ndarray
    lists: Lists
    k: int
    choice: ItemChoice
    item_ids: ItemIds

    def frame(self) -> pl.DataFrame:
        """The columns of `Predictor.recommend`."""
        read, users, lists = self.read, self.users, self.lists
        filled = lists.items != PAD_ID  # (n, K)
        length = filled.sum(axis=1)
        is_popular = read.known[users] == 0
        shown = filled.copy()
        shown[:, 0] |= length == 0  # a list without any item is one row that says why
        row, place = np.nonzero(shown)
        is_item = filled[row, place]
        notes = self._notes(length, is_popular)
        of_notes = NO_NOTE.new_from_index(0, len(row)) if notes is None else pl.Series(notes, dtype=pl.String)[row]
        columns = {
            "user": read.users.new_from_index(int(users[0]), len(row)) if len(users) == 1 else read.users[users[row]],
            "rank": RANKS.head(len(row)) if len(users) == 1 and len(row) <= len(RANKS) else _ranks(place),
            "item_id": self.item_ids.at(np.maximum(lists.items[row, place], 1)),
            "score": pl.Series(lists.scores[row, place]),
            "source": SOURCES[is_popular[row].astype(np.int64)]
            if is_popular.any()
            else SOURCES.new_from_index(0, len(row)),
            "note": of_notes,
        }
        frame = pl.DataFrame([column.rename(name) for name, column in columns.items()])
        if is_item.all():
            return frame
        there = pl.Series(is_item)
        return frame.with_columns(pl.when(there).then(pl.col(name)) for name in ("rank", "item_id", "score"))

    def plain(self) -> list[tuple[str, str | None, list[Any], list[float]]]:
        """Source, note, ids and scores of each user's list: what `frame` says, sooner where users are few."""
        length = (self.lists.items != PAD_ID).sum(axis=1)
        is_popular = self.read.known[self.users] == 0
        notes = self._notes(length, is_popular) or [None] * len(length)
        found = zip(is_popular.tolist(), notes, self.lists.items, self.lists.scores, length.tolist(), strict=True)
        return [
            (NAMES[popular], note, self.item_ids.listed(items[:number]), scores[:number].tolist())
            for popular, note, items, scores, number in found
        ]

    def _notes(self, length: np.ndarray, is_popular: np.ndarray) -> list[str | None] | None:
        """(n,) what is to be said of each list, None of most; None where of none."""
        if not is_popular.any() and (length == self.k).all():
            return None
        users, choice = self.users, self.choice
        notes: list[str | None] = [None] * len(users)
        for place in np.flatnonzero(is_popular):
            given = int(self.read.given[users[place]])
            notes[place] = f"none of its {given:,} events is of a known item" if given else "the history is empty"
        short = np.flatnonzero(length < self.k)
        for place, count in zip(short, choice.count(users[short]), strict=True):
            hidden = int(count - length[place])
            text = f"{length[place]} of {self.k}: there are {count:,} candidates"
            where = "in the history" if choice.live is None else "in the history or not available then"
            text += f", {hidden:,} of them {where}" if hidden else ""
            notes[place] = text if notes[place] is None else f"{notes[place]}; {text}"
        return notes


def _ranks(place: np.ndarray) -> pl.Series:
    return pl.Series((place + 1).astype(np.int32))
