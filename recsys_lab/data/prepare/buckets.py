"""An external sort: events of a source in any order -> frames of whole users, small enough to be sorted in memory."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import polars as pl

BUCKET = "_bucket"
BUCKET_EVENTS = 1 << 22
"""Events that are sorted in memory at once (more where one user has more)."""
BUCKET_BYTES = 16
"""Of the fields of one event, with which a bucket still holds `BUCKET_EVENTS`."""
INTEGERS = (pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64, pl.Int8, pl.Int16, pl.Int32, pl.Int64)
MOST_BUCKETS = 500
"""Each is an open file while they are filled; systems allow 1024."""


def bucket_of_users(counts: np.ndarray, bytes_per_event: int = 0) -> np.ndarray:
    """(U,) events of each user -> (U,) uint16 buckets in ascending order, each of about `BUCKET_EVENTS` events; fewer
    where an event has more than `BUCKET_BYTES` in fields."""
    last = np.cumsum(counts) - 1
    most = BUCKET_EVENTS if bytes_per_event <= BUCKET_BYTES else BUCKET_EVENTS * BUCKET_BYTES // bytes_per_event
    return (last // max(most, 1, -(-int(last[-1] + 1) // MOST_BUCKETS))).astype(np.uint16)


def in_buckets(coded: pl.LazyFrame, number: int, folder: Path) -> Iterator[pl.DataFrame]:
    """The rows of `coded` by their column `BUCKET` (not needed for a single bucket), from 0 to `number` - 1; the rows
    of a frame are in any order.

    One pass over `coded` writes them to files in `folder`, which are gone one by one as the frames are asked for. A
    single bucket never goes to disk.
    """
    if number == 1:
        yield coded.collect(engine="streaming")
        return
    coded.sink_ipc(
        pl.PartitionBy(folder, key=BUCKET, include_key=False), mkdir=True, maintain_order=False, engine="streaming"
    )
    for bucket in range(number):
        files = folder / f"{BUCKET}={bucket}"
        if files.exists():  # one user with several buckets' events leaves some empty
            yield pl.scan_ipc(files / "*").collect(engine="streaming")
            shutil.rmtree(files)


def sorted_by(frame: pl.DataFrame, keys: list[pl.Series], own: Sequence[str] = ()) -> pl.DataFrame:
    """The rows in ascending order of the keys, the first key first; rows that agree in all keys stay in their order.

    Integer keys that together fit into 64 bits are sorted as one number, with the place of the row in the bits that are
    left: a third of the time of sorting rows by several columns. The first keys, where they are the columns `own` of
    the frame, are then read off the sorted numbers: taking rows from all over a column costs ten times as much.
    """
    packed: list[pl.Series] = []
    parts: list[tuple[int, int]] = []  # of each key, the smallest value and its bits
    used = full = 65  # bits of the last of them; 65: nothing fits beside it
    for key in [*keys, pl.int_range(frame.height, dtype=pl.UInt64, eager=True)]:
        if key.dtype not in INTEGERS:
            packed.append(key)
            used = full
            continue
        low, high = int(key.min() or 0), int(key.max() or 0)  # type: ignore[arg-type]
        values = _above(key, low)
        width = (high - low).bit_length()
        parts.append((low, width))
        if used + width > 64:
            packed.append(pl.Series(values))
            used = width
        else:
            packed[-1] = pl.Series((packed[-1].to_numpy() << np.uint64(width)) | values)
            used += width
    if len(packed) == 1:
        numbers = packed[0].to_numpy()
        if is_ascending(numbers):  # many published files are in order already
            return frame
        numbers = np.sort(numbers)
        place = _bits(numbers, 0, width)  # the last key
        read, shift = dict[str, pl.Series](), sum(bits for _, bits in parts)
        for name, (low, bits) in zip(own, parts, strict=False):
            shift -= bits
            values = _bits(numbers, shift, bits)
            values += np.uint64(low % 2**64)  # modulo 2**64, as it was taken off
            dtype = frame.schema[name]
            read[name] = pl.Series(name, values.view(np.int64) if dtype.is_signed_integer() else values).cast(dtype)
        others = frame.drop(own)
        taken = others[place].get_columns() if others.width else []
        return pl.DataFrame([*taken, *read.values()]).select(frame.columns)
    names = [f"_key{number}" for number in range(len(packed))]
    return frame.with_columns(key.alias(name) for name, key in zip(names, packed, strict=True)).sort(names).drop(names)


def _bits(numbers: np.ndarray, shift: int, width: int) -> np.ndarray:
    """(n,) uint64 -> the `width` bits above the lowest `shift`, at most 64 in all."""
    if not width:
        return np.zeros_like(numbers)
    found: np.ndarray = numbers >> np.uint64(shift)
    found &= np.uint64((1 << width) - 1)
    return found


def is_ascending(values: np.ndarray) -> bool:
    return bool((values[1:] > values[:-1]).all())


def dense_codes(ids: pl.Series) -> pl.Expr | None:
    """ids (n,), unique and ascending -> an expression that turns a column of that name into places in `ids` (uint32).

    None where a table over all numbers between the first and the last would be much larger than the ids. Faster than a
    join, and the rows stay in their order. A number that is none of the ids gets any place.
    """
    if ids.dtype not in INTEGERS or not len(ids):
        return None
    low, high = int(ids[0]), int(ids[-1])
    if high - low > 16 * len(ids) + (1 << 20):
        return None
    place = np.zeros(high - low + 1, dtype=np.uint32)
    place[_above(ids, low)] = np.arange(len(ids), dtype=np.uint32)
    return looked_up(place, ids.name, low)


def looked_up(table: np.ndarray, name: str, low: int = 0) -> pl.Expr:
    """The entries of `table` at the integers of column `name`, counted from `low`."""
    dtype = pl.Series(table[:0]).dtype
    return pl.col(name).map_batches(
        lambda at: pl.Series(table[_above(at, low)]), return_dtype=dtype, is_elementwise=True
    )


def _above(column: pl.Series, low: int) -> np.ndarray:
    """column - low, uint64. Modulo 2**64: right for negative numbers too."""
    values: np.ndarray = column.to_numpy().astype(np.uint64)
    values -= np.uint64(low % 2**64)
    return values
