"""Splits: which events train, and which single events are to be predicted. Pure functions over the CSR arrays.

A split never moves events: it gives, per user, where training stops, and for validation and test a list of target
positions in the flat event array. The history of a target is every earlier event of the same user.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import numpy as np

from recsys_lab.schema import Configurable, RecsysLabError

TargetRule = Literal["last", "random", "all", "first"]


@dataclass(frozen=True)
class Targets:
    """Events to predict: `position[n]` in the flat event array belongs to user `user_index[n]`."""

    user_index: np.ndarray  # (N,) int64, sorted
    position: np.ndarray  # (N,) int64

    def __len__(self) -> int:
        return len(self.position)

    def digest(self) -> str:
        return hashlib.sha256(self.position.tobytes()).hexdigest()[:16]


@dataclass(frozen=True)
class SplitResult:
    """What a split says of one data set."""

    train_stop: np.ndarray  # (U,) int64: user u trains on events [offsets[u], train_stop[u])
    val: Targets
    test: Targets
    dropped: dict[str, int]  # reason -> number of users or targets that are not evaluated
    cut_time: int | None = None  # no training event is at or after this time (temporal splits)


class Split(Configurable, ABC):
    """A rule that gives train, val and test. `leaky` rules train on events later than some target's time."""

    leaky: bool

    @abstractmethod
    def apply(self, offsets: np.ndarray, timestamps: np.ndarray | None) -> SplitResult:
        """offsets: (U + 1,) int64; timestamps: (E,) int64 in order within each user, or None without time.

        Raises:
            RecsysLabError: when nothing is left to train on or to evaluate.
        """

    @abstractmethod
    def describe(self) -> str:
        """One line for tables and manifests."""


class LeaveOneOut(Split):
    """Last event = test, last but one = validation, the rest trains (every user ends at another time, so it is *leaky*:
    Ji et al. 2023, "A Critical Study on Data Leakage in Recommender System Offline Evaluation").

    Users with fewer than three events train only.
    """

    leaky = True

    def __init__(self) -> None:
        super().__init__()

    def apply(self, offsets: np.ndarray, timestamps: np.ndarray | None) -> SplitResult:
        lengths = np.diff(offsets)
        users = np.flatnonzero(lengths >= 3)
        train_stop = np.where(lengths >= 3, offsets[1:] - 2, offsets[1:])
        short = int(len(lengths) - len(users))
        dropped = {"users with fewer than 3 events (they train only)": short} if short else {}
        if not len(users):
            raise RecsysLabError(
                f"leave-one-out needs users with at least 3 events (train, val, test); all {len(lengths)} users are "
                f"shorter (longest: {int(lengths.max(initial=0))} events)"
            )
        last = offsets[1:][users] - 1
        return SplitResult(train_stop, Targets(users, last - 1), Targets(users, last), dropped)

    def describe(self) -> str:
        return "leave_one_out (leaky)"


class GlobalTemporal(Split):
    """One cut in time for all users: events before it train, events at or after it are test events.

    Args:
        quantile: the test cut is this quantile of all event times (0 < quantile < 1). Ignored when `test_date` is set.
        val_quantile: the validation cut, as the same quantile rule applied to the events before the test cut.
        test_date: ISO date or date-time (UTC) of the test cut instead of a quantile.
        val_date: ISO date or date-time (UTC) of the validation cut; needs `test_date`.
        target: which of a user's held-out events are predicted: `last`, `random` (one), `all` (each, successively, with
            every earlier event as history) or `first` (its order of models can be the reverse of `all`: see the
            warning).
        seed: for `random`.

    Validation obeys the same rule between the two cuts. A user with no event before the cut has no history for its
    first held-out event: such targets are dropped and counted. Paper: Gusak et al. 2025, "Time to Split".
    """

    leaky = False

    def __init__(
        self,
        quantile: float = 0.9,
        val_quantile: float = 0.9,
        test_date: str | None = None,
        val_date: str | None = None,
        target: TargetRule = "last",
        seed: int = 0,
    ) -> None:
        super().__init__()
        for name, value in (("quantile", quantile), ("val_quantile", val_quantile)):
            if not 0 < value < 1:
                raise RecsysLabError(f"GlobalTemporal {name} must lie between 0 and 1, got {value}")
        if target not in ("last", "random", "all", "first"):
            raise RecsysLabError(f"unknown target {target!r}; known: last, random, all, first")
        if val_date and not test_date:
            raise RecsysLabError("GlobalTemporal val_date needs test_date")
        self.quantile, self.val_quantile, self.target, self.seed = quantile, val_quantile, target, seed
        self.test_date, self.val_date = test_date, val_date

    def apply(self, offsets: np.ndarray, timestamps: np.ndarray | None) -> SplitResult:
        if timestamps is None:
            raise RecsysLabError(
                "the global temporal split needs timestamps; this data set has only an order: use LeaveOneOut"
            )
        times = np.asarray(timestamps)
        test_cut = _seconds(self.test_date) if self.test_date else _quantile(times, self.quantile)
        before_test = times[times < test_cut]
        if not len(before_test) or len(before_test) == len(times):
            raise RecsysLabError(
                f"the test cut {_iso(test_cut)} leaves {len(before_test)} of {len(times)} events for training; "
                f"the data "
                f"spans {_iso(int(times.min()))} to {_iso(int(times.max()))}: choose another quantile or test_date"
            )
        val_cut = _seconds(self.val_date) if self.val_date else _quantile(before_test, self.val_quantile)
        if val_cut >= test_cut:
            raise RecsysLabError(f"val_date {_iso(val_cut)} must be before the test cut {_iso(test_cut)}")
        train_stop = _first_at_or_after(offsets, times, val_cut)
        val_stop = _first_at_or_after(offsets, times, test_cut)
        if not (train_stop > offsets[:-1]).any():
            raise RecsysLabError(f"no event is before the validation cut {_iso(val_cut)}: nothing to train on")
        dropped: dict[str, int] = {}
        val = self._targets(offsets[:-1], train_stop, val_stop, "val", dropped)
        test = self._targets(offsets[:-1], val_stop, offsets[1:], "test", dropped)
        return SplitResult(train_stop, val, test, dropped, cut_time=val_cut)

    def _targets(
        self, begin: np.ndarray, start: np.ndarray, stop: np.ndarray, part: str, dropped: dict[str, int]
    ) -> Targets:
        """The targets among the events [start, stop) of each user; an event without any earlier event can't be one."""
        start = np.minimum(start, stop)
        no_history = (start == begin) & (stop > start)
        if no_history.any():
            dropped[f"{part} events that are their user's first (no history)"] = int(no_history.sum())
        start = np.where(no_history, start + 1, start)
        count = stop - start
        users = np.flatnonzero(count > 0)
        if not len(users):
            raise RecsysLabError(f"no user has a {part} event with a history: move the cuts or use more data")
        if self.target == "all":
            user_index = np.repeat(users, count[users])
            within = np.arange(len(user_index)) - np.repeat(np.cumsum(count[users]) - count[users], count[users])
            return Targets(user_index, start[user_index] + within)
        if self.target == "last":
            position = stop[users] - 1
        elif self.target == "first":
            position = start[users]
        else:
            draw = np.random.default_rng([self.seed, part == "test"]).random(len(begin))[users]
            position = start[users] + np.floor(draw * count[users]).astype(np.int64)
        return Targets(users, position)

    def describe(self) -> str:
        cut = self.test_date or f"q={self.quantile}"
        warning = "; 'first' can reverse the order of models" if self.target == "first" else ""
        return f"global_temporal ({cut}, target={self.target}{warning})"


def _quantile(times: np.ndarray, q: float) -> int:
    """The smallest time such that at least the share q of events is strictly before the next later one."""
    index = min(int(np.floor(q * len(times))), len(times) - 1)
    return int(np.partition(times, index)[index])


def _first_at_or_after(offsets: np.ndarray, times: np.ndarray, cut: int) -> np.ndarray:
    """(U,) flat position of each user's first event at or after `cut` (its stop when there is none)."""
    before = np.concatenate([[0], np.cumsum(times < cut)])  # times are sorted within a user, so counting is enough
    return offsets[:-1] + before[offsets[1:]] - before[offsets[:-1]]


def _seconds(date: str) -> int:
    try:
        moment = dt.datetime.fromisoformat(date)
    except ValueError as error:
        raise RecsysLabError(
            f"can't read the date {date!r}; write it like 2001-01-31 or 2001-01-31T12:00:00"
        ) from error
    return int((moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)).timestamp())


def _iso(seconds: int) -> str:
    return dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat(timespec="seconds")
