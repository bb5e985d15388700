"""What is counted over the training part of a split; see also `fitting/`."""

from __future__ import annotations

from typing import Any

import numpy as np

from recsys_lab.data.histories import positions

COUNTED_AT_ONCE = 1 << 22


def count_items(item_ids: np.ndarray, offsets: np.ndarray, train_stop: np.ndarray, num_items: int) -> np.ndarray:
    """(V,) int64: training events of each item; 0 for padding and for cold items."""
    counts = np.zeros(num_items + 1, dtype=np.int64)
    for first in range(0, len(item_ids), COUNTED_AT_ONCE):  # all, less those held out: the positions of the training
        counts += np.bincount(item_ids[first : first + COUNTED_AT_ONCE], minlength=len(counts))  # part are gigabytes
    held = offsets[1:] - train_stop
    return counts - np.bincount(item_ids[positions(train_stop, held)], minlength=len(counts))


def counted(data: Any, name: str, train_stop: np.ndarray) -> Any:
    """`item_counts`, `mean_gap` or `newest` of the training part of a prepared set; one in shards may know it already.

    Args:
        train_stop: (U,) of the split.
    """
    offsets = np.asarray(data.offsets)

    def count() -> Any:
        if name == "item_counts":
            return count_items(np.asarray(data.item_ids), offsets, train_stop, data.num_items)
        if name == "mean_gap":
            return mean_gap(np.asarray(data.timestamps), offsets, train_stop)
        used = train_stop[train_stop > offsets[:-1]]
        return int(data.timestamps[used - 1].max()) if len(used) else None

    known = getattr(data, "fact", None)
    return count() if known is None else known(name, train_stop, count)


def training_positions(offsets: np.ndarray, train_stop: np.ndarray) -> np.ndarray:
    """(E_train,) flat positions of the training events, users back to back."""
    is_train = np.zeros(offsets[-1] + 1, dtype=np.int8)
    np.add.at(is_train, offsets[:-1], 1)
    np.add.at(is_train, train_stop, -1)
    return np.flatnonzero(np.cumsum(is_train[:-1]))


def mean_gap(timestamps: np.ndarray, offsets: np.ndarray, train_stop: np.ndarray) -> float:
    """Mean seconds between neighbouring training events of a user, at least 1."""
    users = np.flatnonzero(train_stop - offsets[:-1] > 1)
    if not len(users):
        return 1.0
    begin, last = offsets[:-1][users], train_stop[users] - 1
    # the gaps of a user add up to the time from the first event to the last
    return max(1.0, int((timestamps[last] - timestamps[begin]).sum()) / int((last - begin).sum()))
