"""Sliding windows as indices: which slice of a user's history is one training sample. Never copies an event.

A window holds up to `max_length` inputs; the target of the input at position t is the event at t + 1. With a `stride`
shorter than `max_length` windows overlap, and a window then counts only its newest `stride` targets: the older part is
context. So **every training target counts exactly once per epoch, whatever the stride**:

    history  1 2 3 4 5 6 7 8 9, max_length 4
    stride 4           stride 2                      last_position (= stride 1)
    [1 2 3 4] -> 2345  [1 2 3 4] -> 2345             [1]       -> 2
    [5 6 7 8] -> 6789  [3 4 5 6] ->   67             [1 2]     ->  3
                       [5 6 7 8] ->   89             [1 2 3]   ->   4 ...

Windows are laid from the newest event back, as evaluation sees a history: only a user's oldest window can be short.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from recsys_lab.words import RecsysLabError

TrainingMode = Literal["all_positions", "last_position"]


@dataclass(frozen=True)
class Windows:
    """Index of W windows over the flat event array. Inputs are events [start, stop); targets are shifted by one.

    `first_target` is the position of the first event that counts as a target: targets are [first_target, stop].
    For evaluation `first_target == stop`: the one event to predict.
    """

    user_index: np.ndarray  # (W,) int64
    start: np.ndarray  # (W,) int64
    stop: np.ndarray  # (W,) int64
    first_target: np.ndarray  # (W,) int64
    includes_target: bool = False  # inputs are events [start, stop], each the target at its own place

    def __len__(self) -> int:
        return len(self.start)

    @property
    def lengths(self) -> np.ndarray:
        return self.stop - self.start + self.includes_target

    def through_target(self, max_length: int) -> Windows:
        """The same targets, with each among the inputs: windows end with the event whose labels are asked."""
        return replace(self, start=self.start + (self.lengths == max_length), includes_target=True)

    def with_targets(self, is_target: np.ndarray) -> Windows:
        """Those that count one of these events (E,) bool.

        Raises:
            RecsysLabError: when none does.
        """
        before = np.append(0, np.cumsum(is_target))  # how many there are before each event
        keep = before[self.stop + 1] > before[self.first_target]
        if not keep.any():
            raise RecsysLabError("no training sample: no event that may be a target has an earlier one of its user")
        return Windows(self.user_index[keep], self.start[keep], self.stop[keep], self.first_target[keep])

    @property
    def num_targets(self) -> int:
        return int((self.stop - self.first_target + 1).sum())


@dataclass(frozen=True)
class Queries:
    """Evaluation samples with several targets each."""

    first: np.ndarray  # (W + 1,) int64: window w has the targets from first[w] to first[w + 1]
    position: np.ndarray  # (N,) int64 of the event of each target

    @classmethod
    def of(cls, query: np.ndarray, position: np.ndarray) -> Queries:
        """query: (N,) ascending: what the targets of a query share."""
        return cls(np.append(np.flatnonzero(np.diff(query, prepend=-1)), len(query)), position)

    def targets(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(B,) windows -> (B, T) positions of their targets, -1 behind the last, and the mask of those."""
        start = self.first[rows]
        column = np.arange(int((self.first[rows + 1] - start).max()))
        mask = column < (self.first[rows + 1] - start)[:, None]  # (B, T)
        return np.where(mask, self.position[np.where(mask, start[:, None] + column, 0)], -1), mask


def training_windows(
    begin: np.ndarray,
    stop: np.ndarray,
    max_length: int,
    stride: int | None = None,
    mode: TrainingMode = "all_positions",
    max_windows_per_user: int | None = None,
) -> Windows:
    """Windows over each user's training events [begin, stop).

    Args:
        begin: (U,) flat position of the first training event of each user.
        stop: (U,) one past the last training event.
        max_length: L, inputs per window.
        stride: targets that a window counts (1..max_length); default `max_length`: no overlap, fewest windows.
        mode: `all_positions` as above; `last_position` makes every prefix its own sample (stride 1, one target each).
        max_windows_per_user: keep only the newest windows of each user (1 with the default stride is what SASRec's
            original code trains on).

    Raises:
        RecsysLabError: for settings out of range, or when no user has two training events.
    """
    stride = _check(max_length, stride, mode)
    targets = np.maximum(stop - begin - 1, 0)  # every training event but a user's first
    # Window k counts the targets [last - (k+1)*stride + 1, last - k*stride]; the oldest window of a user absorbs what a
    # full window can reach anyway, so that a short history is one window and not several.
    beyond = np.maximum(targets - max_length, 0)
    count = np.where(targets > 0, 1 + -(-beyond // stride), 0)
    if mode == "last_position":
        count = targets
    if max_windows_per_user is not None:
        if max_windows_per_user < 1:
            raise RecsysLabError(f"max_windows_per_user must be at least 1, got {max_windows_per_user}")
        count = np.minimum(count, max_windows_per_user)
    if not count.any():
        raise RecsysLabError(f"no training sample: none of the {len(begin)} users has two events in the training part")
    users = np.repeat(np.arange(len(begin)), count)
    back = np.repeat(np.cumsum(count), count) - 1 - np.arange(len(users))  # 0 = the newest window of its user
    last_target = stop[users] - 1 - back * stride
    start = np.maximum(last_target - max_length, begin[users])
    is_oldest = back == count[users] - 1
    first = np.where(is_oldest, start + 1, last_target - stride + 1)  # the oldest window counts all that it can reach
    if mode == "last_position":
        first = last_target
    return Windows(users, start, last_target, first)


def windows_in_sessions(offsets: np.ndarray, stop: np.ndarray, session_start: np.ndarray, *cut: Any) -> Windows:
    """Training windows of which none holds events of two sessions: the first event of a session is predicted from the
    session before it, every other one from its own.

    Args:
        offsets: (U + 1,). stop: (U,) one past the last training event.
        session_start: (E,) position of the first event of each event's session.
        cut: the other arguments of `training_windows`.
    """
    first = np.unique(session_start)  # of each session, ascending
    user = np.searchsorted(offsets, first, side="right") - 1
    behind = np.minimum(np.append(first[1:], len(session_start)) + 1, stop[user])  # the next session's first event too
    found = training_windows(first, np.maximum(behind, first), *cut)
    return Windows(user[found.user_index], found.start, found.stop, found.first_target)


def evaluation_windows(
    begin: np.ndarray,
    user_index: np.ndarray,
    position: np.ndarray,
    max_length: int,
    session_start: np.ndarray | None = None,
) -> Windows:
    """The newest `max_length` events before each target: (N,) windows for (N,) targets of `begin`'s users; those of one
    session only, where `session_start` (E,) says where that of an event begins."""
    start = np.maximum(position - max_length, begin[user_index])
    if session_start is not None:
        start = np.maximum(start, session_start[position - 1])
    return Windows(user_index, start, position, position)


def _check(max_length: int, stride: int | None, mode: str) -> int:
    if max_length < 1:
        raise RecsysLabError(f"max_length must be at least 1, got {max_length}")
    if mode not in ("all_positions", "last_position"):
        raise RecsysLabError(f"unknown training_mode {mode!r}; known: all_positions, last_position")
    if mode == "last_position":
        if stride not in (None, 1):
            raise RecsysLabError(
                f"training_mode last_position makes every prefix a sample: stride must be 1, got {stride}"
            )
        return 1
    stride = max_length if stride is None else stride
    if not 1 <= stride <= max_length:
        raise RecsysLabError(f"stride must be between 1 and max_length ({max_length}), got {stride}")
    return stride
