"""When each item can be recommended: from its first event on, between its first and last, or as two fields say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from recsys_lab.data.batches.event_rules import Live
from recsys_lab.data.fields.stored import check_named
from recsys_lab.words import RecsysLabError

Available = Literal["first_event", "events"] | list[str] | None
DAY, LATEST_DAY = 86_400, 100_000
EVER = np.iinfo(np.int64).max


def live_items(data: Any, available: Sequence[str] | str) -> Live:
    """`Live` of all items.

    Args:
        data: `ProcessedDataset`.
        available: `first_event`: from an item's first event in the whole log on. `events`: up to its last one, too,
            which nobody knew then: an upper bound. Or two numeric fields of the items, from when and until when: days
            since 1970, as dates are prepared, or Unix seconds; a missing one is no bound.

    Raises:
        RecsysLabError: without times, and for fields that are not there or no numbers.
    """
    if not data.has_timestamps:
        raise RecsysLabError(f"--data.available: {data.name} has no times")
    since, until = np.full(data.num_items + 1, -EVER), np.full(data.num_items + 1, EVER)
    if not isinstance(available, str):
        if len(available) != 2:
            raise RecsysLabError(f"--data.available takes first_event, events or two fields, not {list(available)}")
        since[1:], until[1:] = (_seconds(data, key, bound) for key, bound in zip(available, (-EVER, EVER), strict=True))
        return Live(since, until)
    items, times = np.asarray(data.item_ids), np.asarray(data.timestamps)
    since[:], last = EVER, np.full(data.num_items + 1, -EVER)
    np.minimum.at(since, items, times)
    if available == "events":
        np.maximum.at(last, items, times)
        until = last
    return Live(since, until)


def _seconds(data: Any, key: str, missing: int) -> np.ndarray:
    check_named(data.fields, key, "item", "numeric", "--data.available", "numbers of the items: {known}")
    values = np.asarray(data.field_array(key), dtype=np.float64)
    given = values[~np.isnan(values)]
    unit = DAY if len(given) and np.abs(given).max() < LATEST_DAY else 1
    return (
        np.where(np.isnan(values), float(missing), values * unit).clip(-float(1 << 62), float(1 << 62)).astype(np.int64)
    )
