"""What a split is: which events train, and which events are to be predicted.

A split never moves events: it gives, per user, where training stops, and for validation and test a list of target
positions in the flat event array. The history of a target is every earlier event of the same user; of several targets
that are one query, every event before the first of them.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from recsys_lab.config import Configurable


@dataclass(frozen=True)
class Targets:
    """Events to predict: `position[n]` in the flat event array belongs to user `user_index[n]`."""

    user_index: np.ndarray  # (N,) int64, sorted
    position: np.ndarray  # (N,) int64, ascending
    query: np.ndarray | None = None
    """(N,) int64: where the history ends that a target is predicted from. Targets that share it are one query, asked
    once. None: each target is a query of its own, and its history ends at itself."""

    def __len__(self) -> int:
        return len(self.position)

    def digest(self) -> str:
        query = b"" if self.query is None else self.query.tobytes()
        return hashlib.sha256(self.position.tobytes() + query).hexdigest()[:16]

    def select(self, keep: np.ndarray) -> Targets:
        """Those that `keep` names."""
        return Targets(self.user_index[keep], self.position[keep], None if self.query is None else self.query[keep])


def each_item_once(targets: Targets, item_ids: np.ndarray) -> Targets:
    """The targets of several at once without those of an item that is a target of the same query already.

    Args:
        item_ids: (E,) item of each event.
    """
    if targets.query is None:
        return targets
    item = np.asarray(item_ids[targets.position], dtype=np.int64)
    pair = targets.query * (int(item.max(initial=0)) + 1) + item
    keep = np.zeros(len(targets), dtype=bool)
    keep[np.unique(pair, return_index=True)[1]] = True  # the first of each pair
    return targets.select(keep)


@dataclass(frozen=True)
class SplitResult:
    """What a split says of one data set."""

    train_stop: np.ndarray  # (U,) int64: user u trains on events [offsets[u], train_stop[u])
    val: Targets
    test: Targets
    dropped: dict[str, int]  # reason -> number of users or targets that are not evaluated
    cut_time: int | None = None  # no training event is at or after this time (temporal splits)
    final: SplitResult | None = None
    """The same split where the validation part trains too, for a model that is trained again before the test: training
    reaches up to the test targets, and there is no validation. None where the split offers none."""


def without_repeated_targets(result: SplitResult, item_ids: np.ndarray) -> SplitResult:
    """`each_item_once` in each part; what is left out is counted."""
    val, test = (each_item_once(part, item_ids) for part in (result.val, result.test))
    again = len(result.val) - len(val) + len(result.test) - len(test)
    if not again:
        return result
    dropped = result.dropped | {"targets of an item that their query has already (each counts once)": again}
    final = None if result.final is None else without_repeated_targets(result.final, item_ids)
    return replace(result, val=val, test=test, dropped=dropped, final=final)


NO_TARGETS = Targets(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))


class Split(Configurable, ABC):
    """A rule that gives train, val and test. `leaky` rules train on events later than some target's time."""

    leaky: bool
    warning: str | None = None
    """What a reader of its numbers has to know; logged, and kept in the manifest."""

    def of(self, data: Any) -> SplitResult:
        """The parts of a prepared data set; by its users and times alone, unless a split looks at more.

        Args:
            data: `ProcessedDataset`.

        Raises:
            RecsysLabError: when nothing is left to train on or to evaluate.
        """
        return self.apply(np.asarray(data.offsets), data.timestamps if data.has_timestamps else None)

    @abstractmethod
    def apply(self, offsets: np.ndarray, timestamps: np.ndarray | None) -> SplitResult:
        """offsets: (U + 1,) int64; timestamps: (E,) int64 in order within each user, or None without time.

        Raises:
            RecsysLabError: when nothing is left to train on or to evaluate.
        """

    @abstractmethod
    def describe(self) -> str:
        """One line for tables and manifests."""
