"""Filters over whole histories: duplicates, consecutive repeats, k-core, minimum length."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl

from recsys_lab.data.prepare.condition import Condition
from recsys_lab.data.prepare.prepare_settings import PrepareSettings
from recsys_lab.data.prepare.progress import Progress
from recsys_lab.data.prepare.sorted_events import Block, SortedEvents
from recsys_lab.data.reading.spelling import is_command_line, option
from recsys_lab.words import EVENT_TYPE, RecsysLabError, number_of


@dataclass(frozen=True)
class Step:
    """What one step of `prepare` left, for the manifest and for the error that names the filter that dropped all."""

    name: str
    events: int
    users: int
    items: int

    def __str__(self) -> str:
        sizes = (self.events, "event"), (self.users, "user"), (self.items, "item")
        return f"{self.name}: {', '.join(number_of(*size) for size in sizes)}"


def require_events(step: Step, before: Step) -> None:
    """Raises RecsysLabError that names the filter when `step` left nothing of what was there `before`."""
    if step.events == 0:
        advice = Condition.parse(step.name.removeprefix("keep ")).advice if step.name.startswith("keep ") else ""
        raise RecsysLabError(
            f"no event is left: {_as_typed(step.name)} dropped all {before.events:,} events of {before.users:,} users "
            f"that were left after '{before.name}'; loosen that filter.{advice}"
        )


def _as_typed(step: str) -> str:
    """`keep price>9` is `--keep 'price>9'` on the command line, `min_length=5` is `--min_length 5`."""
    if not is_command_line():
        return step
    if step.startswith("keep "):
        return option("keep", step.removeprefix("keep "))
    return re.sub(r"(\w+)=(\w+)", lambda found: option(found[1], found[2]), step)


def filters_within_users(settings: PrepareSettings) -> dict[str, Callable[[pl.DataFrame], pl.DataFrame]]:
    """The filters that need to see one user's history only, in order, by the name of their step.

    Each takes sorted events of whole users. They never drop a user's or an item's last event.
    """
    found: dict[str, Callable[[pl.DataFrame], pl.DataFrame]] = {}
    if settings.duplicates != "keep":
        found[f"duplicates={settings.duplicates}"] = lambda frame: drop_duplicates(frame, settings.duplicates)
    if settings.consecutive_repeats == "drop":
        found["consecutive_repeats=drop"] = drop_consecutive_repeats
    return found


def drop_duplicates(frame: pl.DataFrame, keep: str) -> pl.DataFrame:
    """'drop': one event per user, item, time and event type. 'first', 'last': one event per user and item."""
    if keep == "drop":
        same = [name for name in ("user", "item", "time", EVENT_TYPE) if name in frame.columns]
        return frame.unique(same, keep="first", maintain_order=True)
    return frame.unique(["user", "item"], keep="first" if keep == "first" else "last", maintain_order=True)


def drop_consecutive_repeats(frame: pl.DataFrame) -> pl.DataFrame:
    """Keeps the first event of each run of one item in one user's history."""
    changes = (pl.col("item") != pl.col("item").shift()) | (pl.col("user") != pl.col("user").shift())
    return frame.filter(changes.fill_null(True))  # null: the very first event


def apply_count_filters(
    events: SortedEvents, settings: PrepareSettings, before: Step, progress: Progress
) -> list[Step]:
    """k-core and minimum length: drops events of `events`, and says what each filter left.

    Raises:
        RecsysLabError: when a filter leaves no event, naming it.
    """
    steps = [before]

    def done(name: str) -> None:
        left = (int(np.count_nonzero(counts)) for counts in (events.user_counts, events.item_counts))
        steps.append(Step(name, events.num_kept, *left))
        require_events(steps[-1], steps[-2])

    if settings.min_user_events > 1 or settings.min_item_events > 1:
        k_core(events, settings, progress)
        done(name_of_core(settings))
    if settings.min_length > 1:
        drop_short_users(events, settings)
        done(name_of_length(settings))
    return steps[1:]


def name_of_core(settings: PrepareSettings) -> str:
    passes = "until both hold" if settings.k_core_iterate else "one pass"
    return f"min_user_events={settings.min_user_events}, min_item_events={settings.min_item_events} ({passes})"


def name_of_length(settings: PrepareSettings) -> str:
    return f"min_length={settings.min_length}"


def k_core(events: SortedEvents, settings: PrepareSettings, progress: Progress) -> None:
    """Drops rare items, then short users; with `k_core_iterate` until nothing changes: the largest set where both hold.

    Dropping an item can bring two events of another item together, so consecutive repeats are dropped in the same loop.
    """
    number = 0
    while True:
        number, height = number + 1, events.num_kept
        progress(f"k-core pass {number}: {height:,} events")
        k_core_pass(events, events.item_counts < settings.min_item_events, settings)
        if events.num_kept == height or not settings.k_core_iterate:
            return


def k_core_pass(events: SortedEvents, rare: np.ndarray, settings: PrepareSettings) -> None:
    """Drops the items that are `rare` (num_items,) in all events after the pass before, then short users."""
    for block in events.blocks():
        gone = np.flatnonzero(rare[block.item] & block.keep)
        block.drop(gone)
        if settings.consecutive_repeats == "drop" and len(gone):
            block.drop(_repeats(block))
        _drop_short_users(block, settings.min_user_events)


def drop_short_users(events: SortedEvents, settings: PrepareSettings) -> None:
    """The minimum length."""
    for block in events.blocks():
        _drop_short_users(block, settings.min_length)


def _repeats(block: Block) -> np.ndarray:
    """Positions of the events whose user's event before, of those that are left, has the same item."""
    left = np.flatnonzero(block.keep)
    item, user = block.item[left], block.users_of(left)
    return left[1:][(item[1:] == item[:-1]) & (user[1:] == user[:-1])]


def _drop_short_users(block: Block, minimum: int) -> None:
    short = (block.user_counts < minimum) & (block.user_counts > 0)
    if short.any():
        block.drop(np.flatnonzero(block.spread(short) & block.keep))
