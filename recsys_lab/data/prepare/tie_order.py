"""The order of one user's events with equal timestamps: a number per event that ties are sorted by."""

from __future__ import annotations

import hashlib

import numpy as np
import polars as pl

from recsys_lab.data.prepare.prepare_settings import PrepareSettings
from recsys_lab.data.prepare.split_mix import STEP, mixed


class TieOrder:
    """`settings.tie_order` over one vocabulary. 'file' has no key: the order of the source decides.

    Args:
        settings: `tie_order` and `seed` are used here.
        users: Raw user ids; row c belongs to user code c.
        items: Raw item ids; row c belongs to item code c.
    """

    def __init__(self, settings: PrepareSettings, users: pl.Series, items: pl.Series) -> None:
        self.name = settings.tie_order
        self.seed = _mix(np.array([int(settings.seed or 0) % 2**64], dtype=np.uint64))
        if self.name == "hash":
            self.users, self.items = hashed_ids(users), hashed_ids(items)

    def key(self, user: pl.Series, item: pl.Series, row: pl.Series) -> pl.Series | None:
        """(n,) codes and row numbers of the source -> (n,) keys; None for 'file'."""
        if self.name == "file":
            return None
        if self.name == "item_id":
            return item
        if self.name == "random":  # of the row number: an event keeps its draw whatever the filters are
            return pl.Series(_mix(row.to_numpy().astype(np.uint64) ^ self.seed))
        return pl.Series(_mix(_mix(self.users[user.to_numpy()] ^ self.seed) ^ self.items[item.to_numpy()]))


def hashed_ids(ids: pl.Series) -> np.ndarray:
    """uint64 per raw id, the same in every version and process (which polars' own hash doesn't promise)."""
    if ids.dtype.is_integer():
        return _mix(ids.to_numpy().astype(np.uint64))
    return np.array(
        [int.from_bytes(hashlib.blake2b(raw.encode(), digest_size=8).digest(), "little") for raw in ids],
        dtype=np.uint64,
    )


def _mix(values: np.ndarray) -> np.ndarray:
    """The first number of the SplitMix64 stream that begins at each value."""
    return mixed(values + STEP)
