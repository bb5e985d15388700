"""Raw interactions -> checked, coded and sorted events on disk: the part of `prepare` that reads the source.

Two passes over the source, whatever its size: one counts (rows, faults, events of each user and item), one sorts the
coded events into buckets of whole users, each of which is then sorted in memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from recsys_lab.data.fields.coding import UNSIGNED
from recsys_lab.data.fields.stored import smallest_unsigned
from recsys_lab.data.fields.wishes import Wishes
from recsys_lab.data.prepare.buckets import (
    BUCKET,
    bucket_of_users,
    dense_codes,
    in_buckets,
    is_ascending,
    looked_up,
    sorted_by,
)
from recsys_lab.data.prepare.condition import Condition
from recsys_lab.data.prepare.event_checks import ORDER, ROW, ValueChecks, as_id, as_seconds, check_columns
from recsys_lab.data.prepare.event_fields import EventFields
from recsys_lab.data.prepare.filters import Step, filters_within_users, require_events
from recsys_lab.data.prepare.prepare_settings import PrepareSettings
from recsys_lab.data.prepare.progress import Progress
from recsys_lab.data.prepare.sorted_events import SortedEvents
from recsys_lab.data.prepare.store import FolderWriter, is_disk_full
from recsys_lab.data.prepare.tie_order import TieOrder
from recsys_lab.data.reading import asks
from recsys_lab.data.reading.source import Before
from recsys_lab.words import EVENT_TYPE, ITEM_ID, RATING, TIMESTAMP, USER_ID, RecsysLabError, resolve_names

BYTES_PER_EVENT = 30
"""Most that is on disk at once: the coded, unsorted events; later the sorted ones (13 bytes) and the prepared set (13).
"""
MOST_COUNTED = 255
"""Event types whose counts the manifest holds, the most frequent ones."""


@dataclass(frozen=True)
class Events:
    """Events of a source, and what their codes mean.

    `sorted` has the columns `item` (uint32), `time` (int64 or float64 seconds; absent without time), `event_type`
    (unsigned, 1..n; absent without types), and those of `fields`.
    """

    sorted: SortedEvents
    users: pl.Series  # raw ids, sorted: row c belongs to user code c
    items: pl.Series
    event_type_counts: dict[str, int]  # of the events that the filters of single events leave, the most first
    event_type_names: list[str]
    steps: list[Step]
    fields: EventFields

    @property
    def has_time(self) -> bool:
        return "time" in self.sorted.columns

    @property
    def has_fractions(self) -> bool:
        """Whether times have parts of a second, which order events and are not stored."""
        return self.has_time and self.sorted.is_float("time")


def read_events(
    interactions: pl.LazyFrame,
    settings: PrepareSettings,
    wishes: Wishes,
    source: str,
    writer: FolderWriter,
    progress: Progress,
    before: Before | None = None,
) -> Events:
    """Checks the interactions, applies the filters of single events, codes the ids, sorts, and applies the filters
    within users.

    Args:
        interactions: `user_id`, `item_id`, `order`, and optionally `timestamp`, `event_type`, `rating` and others.
        wishes: What the user says of the other columns.
        settings: All but the filters that count events of users and items are used here.
        source: Name of the source for error texts.
        writer: Of the prepared set; the events are in its scratch folder.
        progress: Told what begins.
        before: What is known of events that were prepared before.

    Raises:
        RecsysLabError: for missing columns, null ids, bad timestamps, an unknown event type, or when nothing is left.
    """
    with readable(source):
        looked = look(interactions, settings, wishes, source, progress, before)
        fields, count = looked.fields, looked.counted.steps[-1].events
        writer.need(count * (BYTES_PER_EVENT + 2 * fields.bytes_per_event) + (1 << 16))
        return sort(looked, settings, writer.scratch, progress)


@contextmanager
def readable(source: str) -> Iterator[None]:
    """An error of polars is one of the source's rows, unless the disk is full."""
    try:
        yield
    except pl.exceptions.PolarsError as error:
        if is_disk_full(error):
            raise
        raise RecsysLabError(f"the interactions of {source!r} can't be read: {error}") from error


@dataclass(frozen=True)
class Looked:
    """What the first passes find, and the events that are to be sorted, lazy."""

    events: pl.LazyFrame
    counted: Counted
    fields: EventFields


def look(
    interactions: pl.LazyFrame,
    settings: PrepareSettings,
    wishes: Wishes,
    source: str,
    progress: Progress,
    before: Before | None = None,
    row: str | None = None,
) -> Looked:
    """Everything that must be known of all events (see `asks`) before they are sorted.

    Args:
        row: the column with the number of the row among all interactions, where these are not all.
    """
    found = interactions.collect_schema()
    schema = pl.Schema({name: dtype for name, dtype in found.items() if name != row})
    if before is None:
        check_columns(schema, settings, source)
    fields = EventFields(schema, wishes, source)
    filters = single_event_filters(schema, settings, source) if before is None else {}
    masks = {name: pl.col(f"_mask{number}") for number, name in enumerate(filters)}
    ours = [name for name in (USER_ID, ITEM_ID, ORDER, TIMESTAMP, EVENT_TYPE) if name in schema]
    columns = [as_id(schema[name], name, source).alias(name) for name in (USER_ID, ITEM_ID)]
    columns.append(pl.col(ORDER, ROW))
    if TIMESTAMP in schema:
        columns.append(as_seconds(schema[TIMESTAMP]).alias("time"))
    if EVENT_TYPE in schema:
        columns.append(pl.col(EVENT_TYPE).cast(pl.String))

    def numbered(some: Iterable[str]) -> pl.LazyFrame:
        """The rows with our columns, some fields, and whether each filter passes them."""
        passed = [passes.alias(f"_mask{number}") for number, passes in enumerate(filters.values())]
        if row is not None:
            return interactions.select(pl.col(row).alias(ROW), *ours, *fields.raw(some), *passed)
        return interactions.select(*ours, *fields.raw(some), *passed).with_row_index(ROW)

    def canonical(some: Iterable[str]) -> pl.LazyFrame:
        return numbered(some).select(*columns, *some, *masks.values())

    def kept(some: Iterable[str]) -> pl.LazyFrame:
        found = interactions.filter(pl.all_horizontal(filters.values())) if filters else interactions
        return found.select(fields.raw(some))

    progress("counting events, users and items")
    checks = ValueChecks(numbered([]), schema, source, masks.values())
    known_types = () if before is None else before.event_types
    counted = _count(canonical([]), masks, fields.queries(kept), checks, settings, known_types)
    fields.decide(counted.of_fields)
    if fields.columns:
        progress(f"looking for the values of {len(fields.columns):,} fields")
        fields.find_values(kept)
    progress(f"reading {counted.steps[-1].events:,} events")
    events = canonical(list(fields.columns))
    events = events.filter(pl.all_horizontal(masks.values())) if masks else events
    return Looked(events, counted, fields)


def single_event_filters(schema: pl.Schema, settings: PrepareSettings, source: str) -> dict[str, pl.Expr]:
    """The filters of single events by the names of their steps, in their order."""
    found: dict[str, pl.Expr] = {}
    if settings.min_rating is not None:
        found[f"min_rating={settings.min_rating:g}"] = Condition.parse(f"{RATING}>={settings.min_rating!r}").mask(
            schema, source
        )
    if settings.event_types is not None:
        found["event_types"] = pl.col(EVENT_TYPE).cast(pl.String).is_in(settings.event_types)
    for condition in map(Condition.parse, settings.keep or ()):
        found[f"keep {condition.text}"] = condition.mask(schema, source)
    return found


@dataclass(frozen=True)
class Counted:
    """What the first pass finds: vocabularies of the events that the filters of single events leave, and counts."""

    users: pl.DataFrame  # user (uint32 code), user_id, left (events)
    items: pl.DataFrame  # item (uint32 code), item_id, left (events)
    event_type_counts: dict[str, int]
    event_type_names: list[str]
    order_is_row: bool
    steps: list[Step]
    of_fields: dict[str, Any]  # what `EventFields.queries` found


def _count(
    canonical: pl.LazyFrame,
    masks: dict[str, pl.Expr],
    of_fields: list[tuple[pl.LazyFrame, asks.Rule]],
    checks: ValueChecks,
    settings: PrepareSettings,
    known_types: Sequence[str],
) -> Counted:
    counts = [pl.len().alias("read")]
    mask = pl.lit(True)
    for name, expr in masks.items():
        mask = mask & expr
        counts.append(mask.sum().alias(name))
    queries = [checks.query(), *(canonical.group_by(name).agg(counts) for name in (USER_ID, ITEM_ID))]
    rules = ["row", "own", f"sum {ITEM_ID}"]  # pieces of a log hold whole users
    has_types = EVENT_TYPE in canonical.collect_schema()
    if has_types:
        left = mask.sum() if masks else pl.len()
        queries.append(canonical.group_by(EVENT_TYPE).agg(left.alias("left")))
        rules.append(f"sum {EVENT_TYPE}")
    plain = len(queries)
    queries, rules = queries + [query for query, _ in of_fields], rules + [rule for _, rule in of_fields]
    found, users, items, *types = asks.asker().ask(queries, rules)
    checks.require(found.row(0, named=True))
    about = {name: value for row in types[plain - 3 :] for name, value in row.row(0, named=True).items()}
    if settings.keep and has_types:  # without, the names are those of all rows, as they were before there was `keep`
        types = [types[0].filter(pl.col("left") > 0)]
    event_type_names = sorted({*types[0][EVENT_TYPE], *known_types}) if has_types else []
    event_type_counts = _most_first(types[0]) if has_types else {}
    if settings.event_types is not None:
        event_type_names = resolve_names(settings.event_types, event_type_names, f"event type of {checks.source!r}")
    columns = [(f"{n}.{name}", pl.col(name)) for n, name in enumerate(("read", *masks))]
    left_of = {f"{name}.events": column.cast(pl.Int64).sum() for name, column in columns}
    totals = asks.row(users.lazy().select(**left_of, **{f"{name}.users": (c > 0).sum() for name, c in columns}))
    steps = [
        Step(name, totals[f"{n}.{name}.events"], totals[f"{n}.{name}.users"], int((items[name] > 0).sum()))
        for n, name in enumerate(("read", *masks))
    ]
    for before, step in zip(steps, steps[1:], strict=False):
        require_events(step, before)
    users, items = (
        table.select(name, pl.col(steps[-1].name).alias("left"))
        .filter(pl.col("left") > 0)
        .sort(name)
        .with_row_index(code)
        for table, name, code in ((users, USER_ID, "user"), (items, ITEM_ID, "item"))
    )
    return Counted(users, items, event_type_counts, event_type_names, found["order is row"].item(), steps, about)


def _most_first(counts: pl.DataFrame) -> dict[str, int]:
    by_count = counts.filter(pl.col("left") > 0).sort("left", EVENT_TYPE, descending=[True, False])
    return dict(by_count.head(MOST_COUNTED).iter_rows())


def sort(
    looked: Looked, settings: PrepareSettings, scratch: Path, progress: Progress, in_memory: bool = True
) -> Events:
    """The events in order, in files in `scratch`; where there are few and that is allowed, in memory."""
    kept, counted, fields = looked.events, looked.counted, looked.fields
    users, items = counted.users, counted.items
    bucket = bucket_of_users(users["left"].to_numpy(), fields.bytes_per_event)
    coded = _with_codes(_with_codes(kept, users[USER_ID], "user"), items[ITEM_ID], "item")
    num_buckets = int(bucket[-1]) + 1
    if num_buckets > 1:
        coded = coded.with_columns(looked_up(bucket, "user").alias(BUCKET))
    if counted.event_type_names:
        code = pl.col(EVENT_TYPE).cast(pl.Enum(counted.event_type_names)).to_physical().cast(pl.UInt32) + 1
        smallest = UNSIGNED[smallest_unsigned(len(counted.event_type_names))]
        coded = coded.with_columns(code.cast(smallest).alias(EVENT_TYPE))
    coded = coded.with_columns(fields.physical())
    found = coded.collect_schema()
    wanted = [name for name in (BUCKET, "user", "item", "time", EVENT_TYPE, *fields.columns) if name in found]
    coded = coded.select(*wanted, *([] if counted.order_is_row else [ORDER]), ROW)

    tie_order = TieOrder(settings, users[USER_ID], items[ITEM_ID])
    filters = filters_within_users(settings)
    left = dict.fromkeys(filters, 0)
    events = SortedEvents(scratch, users.height, items.height, in_memory and num_buckets == 1)
    for number, frame in enumerate(in_buckets(coded, num_buckets, scratch / "buckets")):
        if number % -(-num_buckets // 10) == 0:
            progress(f"sorting part {number + 1} of {num_buckets}")
        frame = _in_order(frame, tie_order)
        for name, apply in filters.items():
            frame = apply(frame)
            left[name] += frame.height
        events.append(frame)
    last = counted.steps[-1]  # no filter within users takes a user's or an item's last event
    steps = [*counted.steps, *(Step(name, count, last.users, last.items) for name, count in left.items())]
    types, names = counted.event_type_counts, counted.event_type_names
    return Events(events, users[USER_ID], items[ITEM_ID], types, names, steps, fields)


def _with_codes(events: pl.LazyFrame, ids: pl.Series, code: str) -> pl.LazyFrame:
    """Adds the column `code`: the place of each event's id in the sorted `ids`, which are named as its column."""
    codes = dense_codes(ids)
    if codes is not None:
        return events.with_columns(codes.alias(code))
    return events.join(ids.to_frame().with_row_index(code).lazy(), on=ids.name, how="left")


def _in_order(frame: pl.DataFrame, tie_order: TieOrder) -> pl.DataFrame:
    """Sorted by user, time, tie order, order of the source; without the columns that only the order needs."""
    own = [name for name in ("user", "time") if name in frame.columns]
    keys = [frame[name] for name in own]
    if "time" in own:
        tie = tie_order.key(frame["user"], frame["item"], frame[ROW])
        keys += [] if tie is None else [tie]
    last = [frame[name] for name in (ORDER, ROW) if name in frame.columns]
    while last and is_ascending(last[-1].to_numpy()):  # says no more than the order that the rows have
        last.pop()
    keys += last
    return sorted_by(frame.drop(ORDER, ROW, strict=False), keys, own)
