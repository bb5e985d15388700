"""`--append`: newer events behind those of a prepared set. The result is what preparing all at once would have made."""

from __future__ import annotations

import hashlib
import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from recsys_lab.data.fields.kinds import Column, ColumnStats
from recsys_lab.data.fields.stored import StoredField
from recsys_lab.data.fields.wishes import Wish
from recsys_lab.data.prepare.decoded import declared, decoded_events, decoded_shown, decoded_table
from recsys_lab.data.prepare.event_checks import ORDER, ROW, check_columns
from recsys_lab.data.prepare.events import single_event_filters
from recsys_lab.data.prepare.odd_values import moment
from recsys_lab.data.prepare.pipeline import write_set
from recsys_lab.data.prepare.prepare_settings import PrepareSettings
from recsys_lab.data.prepare.processed import ProcessedDataset
from recsys_lab.data.prepare.shown import UNKNOWN_ITEMS, UNKNOWN_USERS
from recsys_lab.data.prepare.store import exclusive
from recsys_lab.data.reading.source import Before, RawTables, Source
from recsys_lab.words import EVENT_TYPE, ITEM_ID, TIMESTAMP, USER_ID, RecsysLabError, number_of

log = logging.getLogger("recsys_lab")

AT_ONCE = "Prepare everything at once instead"


def append(folder: str | Path, newer: Source, raw_dir: str | Path) -> ProcessedDataset:
    """Adds the events of `newer` to the prepared set in `folder`, in place.

    The newer events must not be older than the newest of the set; users, items and values of fields may be new. Rows of
    items and users that `newer` has replace those of the set. The raw files of the set are not needed: what is there is
    read from its own arrays and tables.

    Args:
        folder: of the prepared set.
        newer: its events have the columns of the set's; a column that is new is left out, one that is missing is null.
        raw_dir: Folder of the downloaded files.

    Raises:
        RecsysLabError: for events that are older, or were appended already, and for a set that can't be continued: its
            filters counted the events of users or items, or its order of ties is not known from what is stored.
    """
    folder, raw_dir = Path(folder).absolute(), Path(raw_dir).absolute()
    ProcessedDataset.open(folder)  # before anything is written beside it
    with exclusive(folder), tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.append-") as scratch:
        data = ProcessedDataset.open(folder)
        settings = PrepareSettings.from_dict(data.manifest["settings"])
        _can_be_continued(data, settings)
        write_set(_Appended(data, newer, settings, Path(scratch)), settings, folder, raw_dir)
    return ProcessedDataset.open(folder)


def _can_be_continued(data: ProcessedDataset, settings: PrepareSettings) -> None:
    fault = ""
    for name in ("min_user_events", "min_item_events", "min_length"):
        if getattr(settings, name) > 1:
            fault = f"{name}={getattr(settings, name)} dropped events that newer ones could have kept"
    whole = data.manifest.get("whole_seconds", False) or not data.has_timestamps
    if data.manifest["format_version"] == 1:
        fault = "it was prepared by an older version"
    elif settings.tie_order == "random":
        fault = "tie_order=random drew an order by the rows of the file, which are not known any more"
    elif not whole and (settings.tie_order != "file" or settings.duplicates == "drop"):
        fault = "its times have parts of a second, which ordered events and are not stored"
    elif settings.consecutive_repeats == "drop" and settings.tie_order != "file":
        fault = "consecutive_repeats=drop looked at an order of ties that newer events can change"
    if fault:
        raise RecsysLabError(f"{data.name!r} can't be appended to: {fault}. {AT_ONCE}")


class _Appended(Source):
    """A prepared set and newer tables as one source."""

    homepage = citation = ""
    checked_by = "columns, ids and timestamps"
    urls = ()
    is_own = True

    def __init__(self, data: ProcessedDataset, newer: Source, settings: PrepareSettings, scratch: Path) -> None:
        self.data, self.newer, self.settings, self.scratch = data, newer, settings, scratch
        self.name = data.name
        self.licence = data.manifest["source"].get("licence", "")
        self.known = list(data.manifest.get("appended", []))
        self.added: list[dict[str, Any]] = []

    @property
    def has_timestamps(self) -> bool:
        return self.data.has_timestamps

    def reading(self) -> dict[str, Any]:
        before = self.data.manifest["source"].get("reading", {})
        return before | {"appended": [one["input"] for one in (*self.known, *self.added)]}

    def fingerprint(self, raw_dir: Path) -> str:
        parts = (self.data.manifest["source"]["fingerprint"], self.newer.fingerprint(raw_dir))
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def tables(self, raw_dir: Path) -> RawTables:
        data, newer, digest = self.data, self.newer.tables(raw_dir), self.newer.fingerprint(raw_dir)
        if any(one["fingerprint"] == digest for one in self.known):
            raise RecsysLabError(f"{self.newer.name!r} was appended to {data.name!r} before")
        events = _newer_only(data, newer.interactions, self.newer.name)
        rows = int(events.select(pl.len()).collect(engine="streaming").item())
        what = self.newer.reading().get("input", self.newer.name)
        self.added = [{"input": what, "fingerprint": digest, "events": rows}]
        kept, types, left = self._filtered(events)
        self._nothing_left_out_comes_back(kept)
        left_out = {
            name: data.manifest.get("left_out", {}).get(name, 0) + newer.left_out.get(name, 0)
            for name in (*data.manifest.get("left_out", {}), *newer.left_out)
        }
        manifest = {
            "appended": [*self.known, *self.added],
            "left_out": left_out,
            "binary_column": data.manifest.get("binary_column"),
        }
        gone = dict.fromkeys(left, 0) | {s["name"]: s["events"] - data.num_events for s in data.manifest["steps"]}
        gone |= {name: gone[name] + count - min(left.values()) for name, count in left.items()}
        return RawTables(
            self._joined(decoded_events(data, self.scratch), kept, "event"),
            self._table("item", newer.items),
            self._table("user", newer.users),
            shown=self._shown(newer.shown),
            before=Before((*declared(data), "*=drop"), types, gone, manifest),
        )

    def _filtered(self, events: pl.LazyFrame) -> tuple[pl.LazyFrame, tuple[str, ...], dict[str, int]]:
        """The newer events that the filters of single events leave, by the values as they were read (the set holds
        numbers in float32); all names of event types; and how many events each filter left."""
        schema = events.collect_schema()
        check_columns(schema, self.settings, self.newer.name)
        masks = single_event_filters(schema, self.settings, self.newer.name)
        kept = events.filter(pl.all_horizontal(masks.values())) if masks else events
        passed = [pl.all_horizontal(list(masks.values())[: n + 1]).sum().alias(name) for n, name in enumerate(masks)]
        left = events.select(pl.len().alias("read"), *passed).collect(engine="streaming").row(0, named=True)
        if not list(left.values())[-1]:
            raise RecsysLabError(f"the filters of {self.name!r} leave none of the events of {self.newer.name!r}")
        names = set(self.data.event_type_names)
        if EVENT_TYPE in schema:
            found = (kept if self.settings.keep else events).select(pl.col(EVENT_TYPE).unique())
            names |= set(found.collect(engine="streaming").to_series())
        return kept, tuple(names if self.settings.event_types is None else self.settings.event_types), left

    def _nothing_left_out_comes_back(self, newer: pl.LazyFrame) -> None:
        """What was shown of users and items without events is not stored, and newer events may be of them.

        Raises:
            RecsysLabError: where something was left out so, and the newer events have users or items that are new.
        """
        data = self.data
        for what, key, known in (
            (UNKNOWN_USERS, USER_ID, data.user_ids),
            (UNKNOWN_ITEMS, ITEM_ID, data.item_ids_raw),
        ):
            count = data.manifest.get("left_out", {}).get(what, 0)
            if not count:
                continue
            ids = newer.select(pl.col(key).cast(pl.String).unique()).collect(engine="streaming")[key]
            if not ids.is_in(known.cast(pl.String).implode()).all():
                raise RecsysLabError(
                    f"{self.newer.name!r} can't be appended to {data.name!r}: it has new {key.removesuffix('_id')}s, "
                    f"and {count:,} {what} were left out, which could be theirs. {AT_ONCE}"
                )

    def _shown(self, newer: pl.LazyFrame | None) -> pl.LazyFrame | None:
        old = decoded_shown(self.data)
        if old is None or newer is None:
            return newer if old is None else old.lazy()
        return self._joined(old.lazy(), newer.drop(ORDER, strict=False), "shown")

    def _table(self, scope: str, newer: pl.LazyFrame | None) -> pl.LazyFrame | None:
        """The rows of both; those of the newer come first, so that they are the ones that count."""
        key = ITEM_ID if scope == "item" else USER_ID
        old = decoded_table(self.data, scope).filter(~pl.all_horizontal(pl.exclude(key).is_null()))
        if newer is None:
            return old.lazy() if old.width > 1 else None
        if old.width == 1:
            return newer
        both = _one_type([newer.select([n for n in newer.collect_schema().names() if n in old.columns]), old.lazy()])
        return pl.concat(both, how="diagonal").unique(key, keep="first", maintain_order=True)

    def _joined(self, old: pl.LazyFrame, newer: pl.LazyFrame, table: str) -> pl.LazyFrame:
        """The rows of both, those of the newer last, and their columns as they were stored before."""
        schema, known = newer.collect_schema(), old.collect_schema()
        fields = {f.name: f for f in self.data.fields.values() if ("event" if f.from_events else f.scope) == table}
        more = [name for name in schema.names() if name not in known]
        if more:
            log.warning(
                "%s has the columns %s, which %s has not: left out", self.newer.name, ", ".join(more), self.name
            )
        columns = [
            _as_stored(newer, schema, fields[name], self.newer.name) if name in fields else pl.col(name)
            for name in schema.names()
            if name in known
        ]
        if ORDER in schema and ORDER in known:  # behind all that is there
            lowest = newer.select(pl.col(ORDER).min()).collect(engine="streaming").item()
            place = pl.col(ORDER) + (self.data.num_events - min(0, lowest))
            columns = [expr for expr in columns if expr.meta.output_name() != ORDER] + [place]
        return pl.concat(_one_type([old, newer.select(columns)]), how="diagonal")


def _newer_only(data: ProcessedDataset, events: pl.LazyFrame, name: str) -> pl.LazyFrame:
    """The events, if none of them is older than the newest of the set.

    Raises:
        RecsysLabError: naming the first that is, or a column that one has and the other has not.
    """
    schema = events.collect_schema()
    if (TIMESTAMP in schema) != data.has_timestamps or (EVENT_TYPE in schema) != bool(data.num_event_types):
        has = "has no" if data.has_timestamps and TIMESTAMP not in schema else "doesn't agree with it in its"
        column = TIMESTAMP if (TIMESTAMP in schema) != data.has_timestamps else EVENT_TYPE
        raise RecsysLabError(f"{name!r} can't be appended to {data.name!r}: it {has} column {column!r}")
    if not data.has_timestamps:
        return events
    last = data.manifest["last_time"]
    whole = data.manifest.get("whole_seconds", False) and not schema[TIMESTAMP].is_float()
    least = last if whole else last + 1  # within a second the stored times don't tell which event was first
    late = events.with_row_index(ROW).filter(pl.col(TIMESTAMP) < least).select(pl.len(), pl.col(ROW).first())
    count, row = late.collect(engine="streaming").row(0)
    if count:
        raise RecsysLabError(
            f"{number_of(count, 'event')} of {name!r} {'is' if count == 1 else 'are'} older than the newest of "
            f"{data.name!r} ({moment(last)}), the first is "
            f"in row {row + 1}: only newer events can be appended. {AT_ONCE}"
        )
    return events


def _as_stored(newer: pl.LazyFrame, schema: pl.Schema, field: StoredField, source: str) -> pl.Expr:
    """The column of newer rows as the values that are stored of it.

    Raises:
        RecsysLabError: where it can't be of the kind that the field has.
    """
    name, dtype = field.name, schema[field.name]
    if name == EVENT_TYPE:
        return pl.col(name)
    stats = ColumnStats(name, dtype, Wish(f"{field.key}={field.kind}", kind=field.kind))
    if dtype == pl.Null:
        return pl.col(name)
    facts: Mapping[str, Any] = {"known": 0}
    if not stats.refused:
        facts = newer.select(**stats.exprs()).collect(engine="streaming").row(0, named=True)
        if not facts["known"]:
            return pl.lit(None).alias(name)
    column = stats.column_of(name, "event", facts, source)
    assert column is not None
    if field.kind == "vector" and column.width != field.width:
        raise RecsysLabError(f"{source!r}: {name!r} has {column.width} numbers in a row, the set has {field.width}")
    return Column(name, column.table, column.scope, field.kind, dtype, column.width).physical(name).alias(name)


def _one_type(frames: list[pl.LazyFrame]) -> list[pl.LazyFrame]:
    """The frames with columns of one type: numbers become the wider one, anything else text."""
    schemas = [frame.collect_schema() for frame in frames]
    casts: dict[str, pl.DataType] = {}
    for name in set(schemas[0]) & set(schemas[1]):
        a, b = schemas[0][name], schemas[1][name]
        if a == b:
            continue
        inner = [t.inner if isinstance(t, pl.List) else t for t in (a, b)]
        plain = [t for t in inner if t != pl.Null]
        if len(plain) < 2:
            casts[name] = a if b == pl.Null else b
            continue
        numeric = all(isinstance(t, pl.DataType) and t.is_numeric() for t in plain)
        if {a, b} == {pl.Float32(), pl.Float64()}:
            one: pl.DataType = pl.Float32()
        elif numeric:
            one = pl.Float64() if any(isinstance(t, pl.DataType) and t.is_float() for t in plain) else pl.Int64()
        else:
            one = pl.String()
        casts[name] = pl.List(one) if isinstance(a, pl.List) else one
    return [
        frame.with_columns(pl.col(name).cast(dtype) for name, dtype in casts.items() if schema[name] != dtype)
        for frame, schema in zip(frames, schemas, strict=True)
    ]
