"""The splits: leave-one-out here, by time in `temporal.py`, as a column says in `by_column.py`; what they have in
common in `split_rule.py`."""

from __future__ import annotations

import numpy as np

from recsys_lab.data.split.by_column import ByColumn
from recsys_lab.data.split.split_rule import NO_TARGETS, Split, SplitResult, Targets
from recsys_lab.data.split.temporal import GlobalTemporal
from recsys_lab.words import RecsysLabError

__all__ = ["ByColumn", "NO_TARGETS", "GlobalTemporal", "LeaveOneOut", "Split", "SplitResult", "Targets"]


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
        test = Targets(users, last)
        final = SplitResult(np.where(lengths >= 3, offsets[1:] - 1, offsets[1:]), NO_TARGETS, test, dropped)
        return SplitResult(train_stop, Targets(users, last - 1), test, dropped, final=final)

    def describe(self) -> str:
        return "leave_one_out (leaky)"
