"""A prepared set turned back into tables: what was stored, with the raw ids and values, in the prepared order."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl

from recsys_lab.data.fields.stored import StoredField
from recsys_lab.data.prepare.event_checks import ORDER
from recsys_lab.data.prepare.processed import ProcessedDataset
from recsys_lab.data.prepare.shown import IMPRESSION_ID, LABEL
from recsys_lab.words import TIMESTAMP

DECODED_AT_ONCE = 1 << 20


def decoded_events(data: ProcessedDataset, folder: Path) -> pl.LazyFrame:
    """The events: `user_id`, `item_id`, `order` (the place in the set), `timestamp` where there is one, and the columns
    that became fields. Written to `folder` some at a time, so that memory is that of a part."""
    fields = [field for field in data.fields.values() if field.scope == "event" or field.from_events]
    owner = np.asarray(data.offsets)
    for number, start in enumerate(range(0, data.num_events, DECODED_AT_ONCE)):
        stop = min(start + DECODED_AT_ONCE, data.num_events)
        position = np.arange(start, stop)
        user, item = np.searchsorted(owner, position, side="right") - 1, data.item_ids[start:stop].astype(np.int64) - 1
        columns = [data.user_ids.gather(user), data.item_ids_raw.gather(item), pl.Series(ORDER, position)]
        if data.has_timestamps:
            columns.append(pl.Series(TIMESTAMP, data.timestamps[start:stop]))
        for field in fields:
            columns.append(_column(data, field, start, stop, item if field.scope == "item" else user))
        pl.DataFrame(columns).write_parquet(folder / f"events-{number:06d}.parquet")
    return pl.scan_parquet(folder / "events-*.parquet", glob=True)


def decoded_user(data: ProcessedDataset, user: int) -> pl.DataFrame:
    """The events of one user, a row of the set, oldest first: as `decoded_events` has them, beside the user's fields
    (`user.NAME`), each in a column of its key."""
    start, stop = (int(place) for place in data.offsets[user : user + 2])
    item, owner = data.item_ids[start:stop].astype(np.int64) - 1, np.full(stop - start, user)
    columns = [data.user_ids.gather(owner), data.item_ids_raw.gather(item)]
    if data.has_timestamps:
        columns.append(pl.Series(TIMESTAMP, data.timestamps[start:stop]))
    for field in data.fields.values():
        if field.scope == "event" or (field.scope == "user" and field.from_events):
            columns.append(_column(data, field, start, stop, owner).alias(field.key))
        elif field.scope == "user":
            one = _column(data, field, user, user + 1, owner[:1])
            columns.append(one.gather(np.zeros(stop - start, dtype=np.int64)).alias(field.key))
    return pl.DataFrame(columns)


def decoded_table(data: ProcessedDataset, scope: str) -> pl.DataFrame:
    """The table of items or users without the columns that came from events."""
    table = data.item_table if scope == "item" else data.user_table
    return table.drop([f.name for f in data.fields.values() if f.scope == scope and f.from_events], strict=False)


def decoded_shown(data: ProcessedDataset) -> pl.DataFrame | None:
    """The impressions, a row per shown item; None where there are none."""
    if not data.num_impressions:
        return None
    count = np.diff(data.arrays["shown/offsets"])
    user = np.repeat(np.asarray(data.arrays["shown/users"]), count)
    item = data.arrays["shown/item_ids"].astype(np.int64) - 1
    fields = [field for field in data.fields.values() if field.scope == "shown"]
    return pl.DataFrame(
        [
            data.impression_ids.gather(np.repeat(np.arange(len(count)), count)).alias(IMPRESSION_ID),
            data.user_ids.gather(user),
            data.item_ids_raw.gather(item),
            pl.Series(TIMESTAMP, np.repeat(np.asarray(data.arrays["shown/timestamps"]), count)),
            pl.Series(LABEL, np.asarray(data.arrays["shown/labels"]), nan_to_null=True),
            *(_column(data, field, 0, len(item), user) for field in fields),
        ]
    )


def _column(data: ProcessedDataset, field: StoredField, start: int, stop: int, owner: np.ndarray) -> pl.Series:
    """The raw values of the rows from `start` to `stop`; owner: (n,) item or user of each, for text kept with them."""
    key, name = field.key, field.name
    if field.kind == "text":
        if not field.has_text_file:
            return data.field_text(key).gather(owner).alias(name)
        part = pl.scan_parquet(data.path / field.table).slice(start, stop - start)
        return part.collect(engine="streaming")[:, 0].alias(name)
    array = data.event_array(key) if field.from_events else data.field_array(key)
    if field.kind == "numeric":
        return pl.Series(name, np.asarray(array[start:stop]), nan_to_null=True)
    if field.kind == "vector":
        rows = np.asarray(array[start:stop])
        values = pl.Series(name, rows, dtype=pl.Array(pl.Float32, field.width))
        return values.set(pl.Series(np.isnan(rows[:, 0])), None) if np.isnan(rows).any() else values
    values = pl.concat([pl.Series([None], dtype=data.field_values(key).dtype), data.field_values(key)])
    if field.kind == "categorical":
        return values.gather(np.asarray(array[start:stop]).astype(np.int64)).alias(name)
    offsets = (data.event_offsets(key) if field.from_events else data.field_offsets(key))[start : stop + 1]
    flat = values.gather(np.asarray(array[int(offsets[0]) : int(offsets[-1])]).astype(np.int64)).alias(name)
    row = np.repeat(np.arange(stop - start), np.diff(offsets))
    lists = flat.to_frame().group_by(pl.Series("row", row), maintain_order=True).agg(name)
    rows_of = pl.DataFrame({"row": np.arange(stop - start)})
    return rows_of.join(lists, on="row", how="left", maintain_order="left")[name]


def declared(data: ProcessedDataset) -> Iterator[str]:
    """What `--fields` would say, so that the same columns become the same fields."""
    for field in data.fields.values():
        table = "event" if field.from_events else field.scope
        known = "@query" if field.known_at == "query" else ""
        yield f"{table}.{field.name}={field.scope}.{field.kind}{known}"
