"""An external sort: events of a source in any order -> frames of whole users, small enough to be sorted in memory."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl

BUCKET = "_bucket"
BUCKET_EVENTS = 1 << 22
"""Events that are sorted in memory at once (more where one user has more)."""
MOST_BUCKETS = 500
"""Each is an open file while they are filled; systems allow 1024."""


def bucket_of_users(counts: np.ndarray) -> np.ndarray:
    """(U,) events of each user -> (U,) uint16 buckets in ascending order, each of about `BUCKET_EVENTS` events."""
    last = np.cumsum(counts) - 1
    return (last // max(BUCKET_EVENTS, -(-int(last[-1] + 1) // MOST_BUCKETS))).astype(np.uint16)


def in_buckets(coded: pl.LazyFrame, number: int, folder: Path) -> Iterator[pl.DataFrame]:
    """The rows of `coded` by their column `BUCKET`, from 0 to `number` - 1; the rows of a frame are in any order.

    One pass over `coded` writes them to files in `folder`, which are gone one by one as the frames are asked for. A
    single bucket never goes to disk.
    """
    if number == 1:
        yield coded.drop(BUCKET).collect(engine="streaming")
        return
    coded.sink_ipc(
        pl.PartitionBy(folder, key=BUCKET, include_key=False), mkdir=True, maintain_order=False, engine="streaming"
    )
    for bucket in range(number):
        files = folder / f"{BUCKET}={bucket}"
        if files.exists():  # one user with several buckets' events leaves some empty
            yield pl.scan_ipc(files / "*").collect(engine="streaming")
            shutil.rmtree(files)
