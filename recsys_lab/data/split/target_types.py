"""A split whose targets are events of some types alone: all events are in the histories, these are predicted."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from recsys_lab.data.event_types import is_of_types
from recsys_lab.data.split.leave_one_out import LeaveKOut
from recsys_lab.data.split.split_rule import Split, SplitResult, Targets
from recsys_lab.words import RecsysLabError

ONE_OF = ("last", "first", "random")
"""Rules by which one of a user's held-out events is predicted: one of those that may be."""


def apply_split(split: Split, data: Any, target_types: Sequence[str] | None) -> SplitResult:
    """The parts of a prepared data set; the targets are events of these types alone, or of all.

    Raises:
        RecsysLabError: for a type that the data doesn't have; when no target is left.
    """
    if target_types is None:
        return split.of(data)
    is_target = is_of_types(data, target_types, "--data.target_types")
    return split_by_types(split, data, is_target, ", ".join(target_types))


def split_by_types(split: Split, data: Any, is_target: np.ndarray, names: str) -> SplitResult:
    """The parts, with targets among `is_target` alone.

    Leave-one-out (or -k-out) takes each user's last ones of them: what is after the first of the held-out ones does not
    train, whatever its type. A split with a rule `target` (by time, by a column) applies the rule to them: the `last`
    buy, and not the last event where that is one. Of any other split the targets of other types are left out.

    Args:
        data: `ProcessedDataset`. is_target: (E,) bool. names: of the types, for messages.

    Raises:
        RecsysLabError: when no target is left.
    """
    if isinstance(split, LeaveKOut):
        return _leave_k_out(split, data, is_target, names)
    rule = getattr(split, "target", None)
    if rule in ONE_OF:
        split = copy.copy(split)
        split.target = "all"  # type: ignore[attr-defined]
    result = split.of(data)
    chosen = _of_types(result, is_target, names, rule, getattr(split, "seed", 0))
    for part in ("val", "test"):
        if not len(getattr(chosen, part)) and len(getattr(result, part)):
            raise RecsysLabError(f"--data.target_types [{names}]: no {part} target is of them: {split.describe()}")
    return chosen


def _of_types(result: SplitResult, is_target: np.ndarray, names: str, rule: str | None, seed: int) -> SplitResult:
    left_out, parts = 0, {}
    for part in ("val", "test"):
        targets = getattr(result, part)
        keep = is_target[targets.position]
        left_out += int((~keep).sum())
        kept = targets.select(keep)
        parts[part] = kept.select(_one_of_each(kept, rule, [seed, part == "test"])) if rule in ONE_OF else kept
    dropped = result.dropped | ({f"events of other types than {names} (no targets)": left_out} if left_out else {})
    final = None if result.final is None else _of_types(result.final, is_target, names, rule, seed)
    return replace(result, **parts, dropped=dropped, final=final)


def _one_of_each(targets: Targets, rule: str | None, seed: list[int]) -> np.ndarray:
    """(N,) bool: the one of each user."""
    users, first, count = np.unique(targets.user_index, return_index=True, return_counts=True)
    if rule in ("first", "last"):
        place = count - 1 if rule == "last" else np.zeros_like(count)
    else:
        place = np.floor(np.random.default_rng(seed).random(len(users)) * count).astype(np.int64)
    chosen = np.zeros(len(targets), dtype=bool)
    chosen[first + place] = True
    return chosen


def _leave_k_out(split: LeaveKOut, data: Any, is_target: np.ndarray, names: str) -> SplitResult:
    """The split of a log of the target types alone, its positions found again in the whole one."""
    offsets = np.asarray(data.offsets)
    has_history = np.ones(len(is_target), dtype=bool)
    has_history[offsets[:-1][np.diff(offsets) > 0]] = False
    position = np.flatnonzero(is_target & has_history)
    try:
        result = split.apply(np.searchsorted(position, offsets), None)
    except RecsysLabError as error:
        raise RecsysLabError(f"--data.target_types [{names}], counting these and no first event: {error}") from error
    return _in_whole_log(result, position, offsets)


def _in_whole_log(result: SplitResult, position: np.ndarray, offsets: np.ndarray) -> SplitResult:
    def found(targets: Targets) -> Targets:
        query = None if targets.query is None else position[targets.query]
        return Targets(targets.user_index, position[targets.position], query)

    ends = np.searchsorted(position, offsets)[1:]
    held = result.train_stop < ends  # users with held-out events: what is before the first of them trains
    stop = np.where(held, np.append(position, 0)[result.train_stop], offsets[1:])
    final = None if result.final is None else _in_whole_log(result.final, position, offsets)
    return replace(result, train_stop=stop, val=found(result.val), test=found(result.test), final=final)
