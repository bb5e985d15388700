"""Filters over whole histories: duplicates, consecutive repeats, k-core, minimum length."""

from __future__ import annotations

import numpy as np
import polars as pl

from recsys_lab.data.events import Step, require_events
from recsys_lab.data.settings import PrepareSettings
from recsys_lab.schema import EVENT_TYPE


def apply_filters(frame: pl.DataFrame, settings: PrepareSettings, before: Step) -> tuple[pl.DataFrame, list[Step]]:
    """The filters that `settings` asks for, in order, and what each left.

    Args:
        frame: Sorted events: `user`, `item`, and optionally `time` and `event_type`.
        settings: The filters.
        before: The step that `frame` came from.

    Raises:
        RecsysLabError: when a filter leaves no event, naming it.
    """
    steps: list[Step] = []

    def done(name: str) -> None:
        step = Step(name, frame.height, frame["user"].n_unique(), frame["item"].n_unique())
        require_events(step, steps[-1] if steps else before)
        steps.append(step)

    if settings.duplicates != "keep":
        frame = drop_duplicates(frame, settings.duplicates)
        done(f"duplicates={settings.duplicates}")
    if settings.consecutive_repeats == "drop":
        frame = drop_consecutive_repeats(frame)
        done("consecutive_repeats=drop")
    if settings.min_user_events > 1 or settings.min_item_events > 1:
        frame = k_core(frame, settings)
        passes = "until both hold" if settings.k_core_iterate else "one pass"
        done(f"min_user_events={settings.min_user_events}, min_item_events={settings.min_item_events} ({passes})")
    if settings.min_length > 1:
        frame = frame.filter(_frequent(frame["user"], settings.min_length))
        done(f"min_length={settings.min_length}")
    return frame, steps


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


def k_core(frame: pl.DataFrame, settings: PrepareSettings) -> pl.DataFrame:
    """Drops rare items, then short users; with `k_core_iterate` until nothing changes: the largest set where both hold.

    Dropping an item can bring two events of another item together, so consecutive repeats are dropped in the same loop.
    """
    while True:
        height = frame.height
        frame = frame.filter(_frequent(frame["item"], settings.min_item_events))
        if settings.consecutive_repeats == "drop":
            frame = drop_consecutive_repeats(frame)
        frame = frame.filter(_frequent(frame["user"], settings.min_user_events))
        if frame.height == height or not settings.k_core_iterate:
            return frame


def _frequent(codes: pl.Series, minimum: int) -> pl.Series:
    """(E,) bool: the code of this event occurs at least `minimum` times."""
    values = codes.to_numpy()
    return pl.Series(np.bincount(values, minlength=1)[values] >= minimum)
