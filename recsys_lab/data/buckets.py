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
INTEGERS = (pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64, pl.Int8, pl.Int16, pl.Int32, pl.Int64)
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


def sorted_by(frame: pl.DataFrame, keys: list[pl.Series]) -> pl.DataFrame:
    """The rows in ascending order of the keys, the first key first; no two rows may agree in all keys.

    Integer keys that together fit into 64 bits are sorted as one number: a third of the time of several columns.
    """
    packed: list[pl.Series] = []
    used = full = 65  # bits of the last of them; 65: nothing fits beside it
    for key in keys:
        if key.dtype not in INTEGERS:
            packed.append(key)
            used = full
            continue
        values = key.to_numpy().astype(np.uint64)
        low, high = int(key.min()), int(key.max())  # type: ignore[arg-type]
        values = values - np.uint64(low % 2**64)  # modulo 2**64: right for negative numbers too
        width = (high - low).bit_length()
        if used + width > 64:
            packed.append(pl.Series(values))
            used = width
        else:
            packed[-1] = pl.Series((packed[-1].to_numpy() << np.uint64(width)) | values)
            used += width
    names = [f"_key{number}" for number in range(len(packed))]
    return frame.with_columns(key.alias(name) for name, key in zip(names, packed, strict=True)).sort(names).drop(names)
