"""GlobalTemporal: one cut in time for all users. docs/temporal_splits.md works every combination on five users.

Paper: Gusak et al. 2025, "Time to Split: Exploring Data Splitting Strategies for Offline Evaluation of Sequential
Recommenders".
"""

from __future__ import annotations

import datetime as dt
import re
from typing import Annotated, Literal

import numpy as np

from recsys_lab.arguments import Range, Seed
from recsys_lab.data.histories import positions
from recsys_lab.data.split.split_rule import NO_TARGETS, Split, SplitResult, Targets
from recsys_lab.words import ArgumentError, RecsysLabError

TargetRule = Literal["last", "random", "all", "first", "together"]
Quantile = Annotated[float, Range(above=0, below=1)]
DEFAULT_QUANTILE = 0.9
BINS, BLOCK = 1 << 16, 1 << 22
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}


class GlobalTemporal(Split):
    """One cut in time for all users: events before it train, events at or after it are test events.

    Args:
        quantile: the test cut is this quantile of all event times (0 < quantile < 1); None = 0.9, unless `test_date`
            or `test_window` says where to cut.
        val_quantile: the validation cut, as the same quantile rule applied to the events before the test cut; None =
            0.9, unless `val_date` or `val_window` says where to cut.
        test_date: ISO date or date-time (UTC) of the test cut.
        val_date: ISO date or date-time (UTC) of the validation cut.
        target: which of a user's held-out events are predicted: `last`, `random` (one), `all` (each, successively, with
            every earlier event as history), `first` (see `warning`) or `together` (all at once, from the history before
            the first of them).
        seed: for `random`.
        test_window: the newest part of the data is test: a number with s, m, h, d or w, as in `7d`.
        val_window: the validation part is so long, and ends at the test cut.
        validation: `by_time`: a second cut before the test cut, and the same `target` rule between the two.
            `last_train_item`: each user's last event before the test cut is a validation target; all before it trains.
        users: `all`, or only `warm` ones: those with a training event. (Where the validation part trains too, users
            whose history begins in it are warm as well.)

    A user's very first event has no history and is no target; whatever is not evaluated is counted in `dropped`.

    Raises:
        RecsysLabError: for settings out of range, unknown, or against each other.
    """

    leaky = False

    def __init__(
        self,
        quantile: Quantile | None = None,
        val_quantile: Quantile | None = None,
        test_date: str | None = None,
        val_date: str | None = None,
        target: TargetRule = "last",
        seed: Seed = 0,
        test_window: str | None = None,
        val_window: str | None = None,
        validation: Literal["by_time", "last_train_item"] = "by_time",
        users: Literal["all", "warm"] = "all",
    ) -> None:
        super().__init__()
        test = {"quantile": quantile, "test_date": test_date, "test_window": test_window}
        val = {"val_quantile": val_quantile, "val_date": val_date, "val_window": val_window}
        for cuts in (test, val):
            given = [name for name, value in cuts.items() if value is not None]
            if len(given) > 1:
                raise RecsysLabError(f"GlobalTemporal takes one of {', '.join(cuts)}, got {' and '.join(given)}")
            if cuts is val and given and validation == "last_train_item":
                raise RecsysLabError(f"GlobalTemporal validation: last_train_item has no cut: drop {given[0]}")
        self.quantile = DEFAULT_QUANTILE if quantile is None else quantile
        self.val_quantile = DEFAULT_QUANTILE if val_quantile is None else val_quantile
        self.test_date = None if test_date is None else seconds_of_date(test_date, "test_date")
        self.val_date = None if val_date is None else seconds_of_date(val_date, "val_date")
        self.test_window = None if test_window is None else seconds_of_window(test_window, "test_window")
        self.val_window = None if val_window is None else seconds_of_window(val_window, "val_window")
        self.target, self.validation, self.users, self.seed = target, validation, users, seed
        self._test_name = test_date or (f"last {test_window}" if test_window else f"q={self.quantile}")
        if target == "first":
            self.warning = (
                "target=first can reverse the order of models: on MovieLens-1M it correlates -0.37 with that of "
                "target=all (Gusak et al. 2025); use last, random or all"
            )

    def apply(self, offsets: np.ndarray, timestamps: np.ndarray | None) -> SplitResult:
        if timestamps is None:
            raise RecsysLabError(
                "the global temporal split needs timestamps; this data set has only an order: use LeaveOneOut"
            )
        times, begin = np.asarray(timestamps), offsets[:-1]
        test_cut = self._test_cut(times)
        test_start = first_at_or_after(offsets[:-1], offsets[1:], times, test_cut)
        dropped: dict[str, int] = {}
        if self.validation == "last_train_item":
            cut, train_stop, val = test_cut, *self._last_train_items(begin, test_start, dropped)
        else:
            cut = self._val_cut(times, test_cut)
            train_stop = first_at_or_after(offsets[:-1], offsets[1:], times, cut)
            if not (train_stop > begin).any():
                raise RecsysLabError(f"no event is before the validation cut {_iso(cut)}: nothing to train on")
            val = self._targets(begin, train_stop, test_start, train_stop, "val", dropped)
        lost: dict[str, int] = {}
        test = self._targets(begin, test_start, offsets[1:], train_stop, "test", lost)
        lost_of_final: dict[str, int] = {}
        test_of_final = self._targets(begin, test_start, offsets[1:], test_start, "test", lost_of_final)
        final = SplitResult(test_start, NO_TARGETS, test_of_final, lost_of_final, cut_time=test_cut)
        return SplitResult(train_stop, val, test, dropped | lost, cut_time=cut, final=final)

    def describe(self) -> str:
        """One line that tells splits apart: cuts as they were asked for, and what differs from the defaults."""
        warning = "; 'first' can reverse the order of models" if self.warning else ""
        parts = [self._test_name, f"target={self.target}{warning}"]
        parts += [f"validation={self.validation}"] if self.validation != "by_time" else []
        parts += [f"users={self.users}"] if self.users != "all" else []
        return f"global_temporal ({', '.join(parts)})"

    # -- cuts ----------------------------------------------------------------------------------------------------------

    def _test_cut(self, times: np.ndarray) -> int:
        if self.test_date is not None:
            cut = self.test_date
        elif self.test_window is not None:
            cut = int(times.max()) - self.test_window + 1  # (newest - window, newest]: `7d` of day stamps are 7 days
        else:
            cut = _quantile(times, self.quantile)
        before = int((times < cut).sum())
        if not 0 < before < len(times):
            raise RecsysLabError(
                f"the test cut {_iso(cut)} leaves {before} of {len(times)} events for training; the data spans "
                f"{_iso(int(times.min()))} to {_iso(int(times.max()))}: choose another quantile, test_date or "
                "test_window"
            )
        return cut

    def _val_cut(self, times: np.ndarray, test_cut: int) -> int:
        if self.val_date is not None:
            if self.val_date >= test_cut:
                raise RecsysLabError(f"val_date {_iso(self.val_date)} must be before the test cut {_iso(test_cut)}")
            return self.val_date
        if self.val_window is not None:
            return test_cut - self.val_window
        return _quantile(times, self.val_quantile, before=test_cut)

    # -- targets -------------------------------------------------------------------------------------------------------

    def _last_train_items(
        self, begin: np.ndarray, stop: np.ndarray, dropped: dict[str, int]
    ) -> tuple[np.ndarray, Targets]:
        """(U,) where training stops, and each user's last event before `stop` (U,) as target, if another is before."""
        count = stop - begin
        if (count == 1).any():
            dropped["users with one event before the test cut (it trains only)"] = int((count == 1).sum())
        users = np.flatnonzero(count >= 2)
        if not len(users):
            raise RecsysLabError("no user has two events before the test cut: nothing to validate on; move the cut")
        return np.where(count >= 2, stop - 1, stop), Targets(users, stop[users] - 1)

    def _targets(
        self,
        begin: np.ndarray,
        start: np.ndarray,
        stop: np.ndarray,
        train_stop: np.ndarray,
        part: str,
        dropped: dict[str, int],
    ) -> Targets:
        """The targets among the events [start, stop) of each user, all (U,) flat positions."""
        if self.users == "warm":
            cold = (train_stop == begin) & (stop > start)
            if cold.any():
                dropped[f"{part} users without a training event (not warm)"] = int(cold.sum())
            start = np.where(cold, stop, start)
        no_history = (start == begin) & (stop > start)
        if no_history.any():
            dropped[f"{part} events that are their user's first (no history)"] = int(no_history.sum())
        start = np.where(no_history, start + 1, start)
        count = stop - start
        users = np.flatnonzero(count > 0)
        if not len(users):
            warm = "warm " if self.users == "warm" else ""
            raise RecsysLabError(f"no {warm}user has a {part} event with a history: move the cuts or use more data")
        if self.target in ("all", "together"):
            user_index = np.repeat(users, count[users])
            query = start[user_index] if self.target == "together" else None
            return Targets(user_index, positions(start[users], count[users]), query)
        if self.target == "last":
            position = stop[users] - 1
        elif self.target == "first":
            position = start[users]
        else:
            draw = np.random.default_rng([self.seed, part == "test"]).random(len(begin))[users]
            position = start[users] + np.floor(draw * count[users]).astype(np.int64)
        return Targets(users, position)


def seconds_of_date(date: str, argument: str = "date") -> int:
    """ISO date or date-time -> Unix seconds; UTC unless it names a time zone. `argument` is its name in an error."""
    try:
        moment = dt.datetime.fromisoformat(date)
    except ValueError as error:
        problem = f"must be a date like 2001-01-31 or 2001-01-31T12:00:00, not {date!r}"
        raise ArgumentError("GlobalTemporal", argument, problem, date) from error
    return int((moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)).timestamp())


def seconds_of_window(window: str, argument: str = "window", owner: str = "GlobalTemporal") -> int:
    """`7d` -> 604800; units s, m (minutes), h, d, w."""
    found = re.fullmatch(r"(\d+)([smhdw])", window)
    if found is None or int(found[1]) < 1:
        problem = f"must be a number with s, m, h, d or w, like 7d or 12h, not {window!r}"
        raise ArgumentError(owner, argument, problem, window)
    return int(found[1]) * SECONDS[found[2]]


def _quantile(times: np.ndarray, q: float, before: int | None = None) -> int:
    """The smallest time such that at least the share q of events is strictly before the next later one; of the events
    before a time only, if one is given.

    Exact, and without a copy of the times, which may be a map of a file: they are counted in ever narrower bins.
    """
    low, high = int(times.min()), int(times.max()) if before is None else before - 1
    number = len(times) if before is None else int((times < before).sum())
    index = min(int(np.floor(q * number)), number - 1)
    while True:
        width = -(-(high - low + 1) // BINS)
        counts = np.zeros(BINS, dtype=np.int64)
        for start in range(0, len(times), BLOCK):
            block = times[start : start + BLOCK]
            block = block[(block >= low) & (block <= high)]
            counts += np.bincount((block - low) // width, minlength=BINS)
        upto = np.cumsum(counts)
        bin_ = int(np.searchsorted(upto, index, side="right"))  # the one that holds the event of this index
        index -= int(upto[bin_] - counts[bin_])
        low, high = low + bin_ * width, min(high, low + (bin_ + 1) * width - 1)
        if width == 1:
            return low


def first_at_or_after(begin: np.ndarray, stop: np.ndarray, times: np.ndarray, cut: np.ndarray | int) -> np.ndarray:
    """(N,) flat position of the first event at or after its `cut` among the events [begin, stop) of one user each; stop
    when there is none."""
    low, high, cut = begin.copy(), stop.copy(), np.broadcast_to(cut, begin.shape)
    while len(user := np.flatnonzero(low < high)):  # sorted within a user: all users halve their range at once
        middle = (low[user] + high[user]) // 2
        before = times[middle] < cut[user]
        low[user[before]] = middle[before] + 1
        high[user[~before]] = middle[~before]
    return low


def _iso(seconds: int) -> str:
    return dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat(timespec="seconds")
