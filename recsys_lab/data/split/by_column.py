"""ByColumn: a column of the events says which of them train, and which are predicted."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from recsys_lab.data.split.split_rule import NO_TARGETS, Split, SplitResult, Targets
from recsys_lab.words import ArgumentError, RecsysLabError

PARTS = ("train", "val", "test")
ALSO_CALLED = {"0": "train", "1": "val", "2": "test", "valid": "val", "validation": "val"}
NO_PART = 3
"""Where the column is empty."""


class ByColumn(Split):
    """The split that a column of the events gives, as benchmarks publish it.

    Of each user the events must come in the order train, val, test: a model that trains on an event may know all before
    it. Events without a value are no targets; they are in the histories of later targets, and so must not come before
    an event that trains. A user's very first event has no history and is no target.

    It leaks (as leave-one-out does) unless one moment in time lies after all training events and before all others.

    Args:
        column: field of the events with the values train, val (or valid, validation) and test; or 0, 1 and 2.
        train, val, test: what these values are called in the column, where they have other names.
        target: which of a user's val (and test) events are predicted: `all`, each with every earlier event as history,
            only the `last`, or `together`: all of them at once, from the history before the first.

    Raises:
        RecsysLabError: for a column that is not there or holds other values, and for a user whose events are in another
            order, naming both.
    """

    leaky = True

    def __init__(
        self,
        column: str,
        train: str = "train",
        val: str = "val",
        test: str = "test",
        target: Literal["all", "last", "together"] = "all",
    ) -> None:
        super().__init__()
        if len({train, val, test}) < 3:
            raise ArgumentError("ByColumn", "train, val, test", f"must be three names, not {train}, {val}, {test}")
        self.column, self.names, self.target = column, dict(zip((train, val, test), PARTS, strict=True)), target

    def apply(self, offsets: np.ndarray, timestamps: np.ndarray | None) -> SplitResult:
        raise RecsysLabError("ByColumn reads a column of the data: call of(processed)")

    def of(self, data: Any) -> SplitResult:
        offsets, part = np.asarray(data.offsets), self._parts(data)
        train_stop, first_test = _first_from(offsets, part >= 1), _first_from(offsets, part == 2)
        self._check_order(data, offsets, part, train_stop, first_test)
        dropped: dict[str, int] = {}
        if (part == NO_PART).any():
            dropped[f"events without a value in {self.column} (no targets)"] = int((part == NO_PART).sum())
        val = self._targets(offsets, part == 1, "val", dropped)
        test = self._targets(offsets, part == 2, "test", dropped)
        cut = self._cut(data, part)
        self.leaky = cut is None
        final = SplitResult(_first_from(offsets, part >= 2), NO_TARGETS, test, dropped)
        return SplitResult(train_stop, val, test, dropped, cut, final)

    def describe(self) -> str:
        """Whether it is leaky is known when it has been applied."""
        parts = [self.column, *([] if self.target == "all" else [f"target={self.target}"])]
        return f"by_column ({', '.join(parts)}{', leaky' if self.leaky else ''})"

    def _parts(self, data: Any) -> np.ndarray:
        """(E,) uint8: place in `PARTS`, or `NO_PART`."""
        stored = data.fields.get(self.column)
        if stored is None:
            known = ", ".join(key for key, one in data.fields.items() if one.scope == "event") or "none"
            raise RecsysLabError(
                f"ByColumn: the events have no field {self.column!r} (fields of events: {known}): name it with "
                f"split.column, or prepare the data with that column"
            )
        if stored.kind not in ("categorical", "numeric"):
            raise RecsysLabError(f"ByColumn: {self.column!r} is {stored.kind}: the column must hold one name in a row")
        array = np.asarray(data.field_array(self.column))
        if stored.kind == "numeric":
            distinct, code = np.unique(array, return_inverse=True)
            names = ["" if np.isnan(value) else f"{value:g}" for value in distinct]
        else:
            names, code = ["", *map(str, data.field_values(self.column))], array
        here = np.bincount(code, minlength=len(names)) > 0
        also = {name: part for name, part in ALSO_CALLED.items() if self.names.get(part) == part}
        place = {name: PARTS.index(part) for name, part in (also | self.names).items()}
        other = [name for name, is_here in zip(names, here, strict=True) if is_here and name and name not in place]
        if other:
            raise RecsysLabError(
                f"ByColumn: {self.column!r} holds {', '.join(map(repr, other[:5]))}, and its values must be "
                f"{', '.join(self.names)}: say what they are called with split.train, split.val and split.test"
            )
        found: np.ndarray = np.array([place.get(name, NO_PART) for name in names], dtype=np.uint8)[code]
        lacking = [name for name, part in self.names.items() if not (found == PARTS.index(part)).any()]
        if lacking:
            raise RecsysLabError(f"ByColumn: no event has {' or '.join(map(repr, lacking))} in {self.column!r}")
        return found

    def _check_order(
        self, data: Any, offsets: np.ndarray, part: np.ndarray, train_stop: np.ndarray, first_test: np.ndarray
    ) -> None:
        """Raises RecsysLabError for a user with an event that trains after one that doesn't, or val after test."""
        position, length = np.arange(len(part)), np.diff(offsets)
        for place, bound in ((0, train_stop), (1, first_test)):
            late = np.flatnonzero((part == place) & (position > np.repeat(bound, length)))
            if not len(late):
                continue
            user = int(np.searchsorted(offsets, late[0], side="right")) - 1
            names = [*map(repr, self.names), "without a value"]
            raise RecsysLabError(
                f"ByColumn: of user {data.user_ids[user]!r} event {late[0] - offsets[user] + 1} is {names[place]} and "
                f"comes after event {bound[user] - offsets[user] + 1}, which is {names[part[bound[user]]]}: a user's "
                f"events must be in the order {', '.join(self.names)}"
            )

    def _targets(self, offsets: np.ndarray, wanted: np.ndarray, part: str, dropped: dict[str, int]) -> Targets:
        position = np.flatnonzero(wanted)
        user = np.searchsorted(offsets, position, side="right") - 1
        has_history = position > offsets[user]
        if not has_history.all():
            dropped[f"{part} events that are their user's first (no history)"] = int((~has_history).sum())
        position, user = position[has_history], user[has_history]
        if not len(position):
            raise RecsysLabError(f"ByColumn: no {part} event in {self.column!r} has an earlier event of its user")
        is_first = np.diff(user, prepend=-1) != 0
        if self.target == "together":
            return Targets(user, position, position[is_first][np.cumsum(is_first) - 1])
        keep = np.diff(user, append=-1) != 0 if self.target == "last" else slice(None)
        return Targets(user[keep], position[keep])

    @staticmethod
    def _cut(data: Any, part: np.ndarray) -> int | None:
        """The time of the first event that does not train, if all that train are earlier."""
        if not data.has_timestamps:
            return None
        times = np.asarray(data.timestamps)
        first = int(times[part > 0].min())
        return first if int(times[part == 0].max()) < first else None


def _first_from(offsets: np.ndarray, is_out: np.ndarray) -> np.ndarray:
    """(U,) position of each user's first event that is out, or where the user's events end."""
    out = np.append(np.flatnonzero(is_out), len(is_out))
    found: np.ndarray = np.minimum(out[np.searchsorted(out, offsets[:-1])], offsets[1:])
    return found
