"""The splits: leave-one-out and leave-k-out here, by time in `temporal.py`, as a column says in `by_column.py`; what
they have in common in `split_rule.py`."""

from __future__ import annotations

import numpy as np

from recsys_lab.arguments import Count
from recsys_lab.data.split.by_column import ByColumn
from recsys_lab.data.split.split_rule import NO_TARGETS, Split, SplitResult, Targets
from recsys_lab.data.split.temporal import GlobalTemporal
from recsys_lab.words import RecsysLabError

__all__ = ["ByColumn", "NO_TARGETS", "GlobalTemporal", "LeaveKOut", "LeaveOneOut", "Split", "SplitResult", "Targets"]


class LeaveKOut(Split):
    """Each user's last events = test, as many before them = validation, the rest trains. It is *leaky* as `LeaveOneOut`
    is.

    Args:
        num_targets: events of a part; they are predicted together, from the history before the first of them. Users
            with fewer than 2 num_targets + 1 events train only.
    """

    leaky = True

    def __init__(self, num_targets: Count) -> None:
        super().__init__()
        self.num_targets = num_targets

    def apply(self, offsets: np.ndarray, timestamps: np.ndarray | None) -> SplitResult:
        lengths, held, end = np.diff(offsets), self.num_targets, offsets[1:]
        least = 2 * held + 1
        is_long = lengths >= least
        users = np.flatnonzero(is_long)
        short = int(len(lengths) - len(users))
        dropped = {f"users with fewer than {least} events (they train only)": short} if short else {}
        if not len(users):
            raise RecsysLabError(
                f"{self._name} needs users with at least {least} events (train, val, test); all {len(lengths)} users "
                f"are shorter (longest: {int(lengths.max(initial=0))} events)"
            )
        val, test = (self._before(users, end[users] - after) for after in (held, 0))
        final = SplitResult(np.where(is_long, end - held, end), NO_TARGETS, test, dropped)
        return SplitResult(np.where(is_long, end - 2 * held, end), val, test, dropped, final=final)

    def _before(self, users: np.ndarray, stop: np.ndarray) -> Targets:
        """The `num_targets` events of each user that end at `stop` (U,)."""
        if self.num_targets == 1:
            return Targets(users, stop - 1)
        start = np.repeat(stop - self.num_targets, self.num_targets)
        position = start + np.tile(np.arange(self.num_targets), len(users))
        return Targets(np.repeat(users, self.num_targets), position, start)

    def describe(self) -> str:
        return f"{self._name.replace('-', '_')} (leaky)"

    @property
    def _name(self) -> str:
        return f"leave-{'one' if self.num_targets == 1 else self.num_targets}-out"


class LeaveOneOut(LeaveKOut):
    """Last event = test, last but one = validation, the rest trains (every user ends at another time, so it is *leaky*:
    Ji et al. 2023, "A Critical Study on Data Leakage in Recommender System Offline Evaluation").

    Users with fewer than three events train only.
    """

    def __init__(self) -> None:
        super().__init__(1)
