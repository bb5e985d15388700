"""prepare: a source -> filtered, ordered, memory-mapped events on disk, with a manifest that says how it was made."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from recsys_lab import __version__
from recsys_lab.data.fields.wishes import Wishes, find_wishes
from recsys_lab.data.histories import positions
from recsys_lab.data.prepare.event_fields import further_columns
from recsys_lab.data.prepare.events import Events, read_events
from recsys_lab.data.prepare.feature_join import with_features
from recsys_lab.data.prepare.filters import Step, apply_count_filters
from recsys_lab.data.prepare.odd_values import warn_of_odd_ids, warn_of_odd_times
from recsys_lab.data.prepare.prepare_remarks import remarks
from recsys_lab.data.prepare.prepare_settings import PrepareSettings
from recsys_lab.data.prepare.processed import (
    FORMAT,
    FORMAT_VERSION,
    ITEMS,
    MANIFEST,
    USERS,
    ForeignFolderError,
    ProcessedDataset,
    files_of,
)
from recsys_lab.data.prepare.progress import Progress
from recsys_lab.data.prepare.reuse import open_existing
from recsys_lab.data.prepare.shown import only_shown, shown_columns, write_shown
from recsys_lab.data.prepare.sorted_events import Block, SortedEvents
from recsys_lab.data.prepare.stamp import keep_stamp, stamp_of
from recsys_lab.data.prepare.store import FolderWriter, exclusive
from recsys_lab.data.prepare.write_fields import no_twins, write_fields
from recsys_lab.data.reading.source import Before, RawTables, Source
from recsys_lab.data.reading.spelling import is_command_line, option
from recsys_lab.words import ITEM_ID, USER_ID, RecsysLabError, number_of

__all__ = ["NameTakenError", "PrepareSettings", "prepare"]

log = logging.getLogger("recsys_lab")


class NameTakenError(RecsysLabError):
    """The folder holds a set that was made of other things."""


def prepare(
    source: Source,
    settings: PrepareSettings,
    output: str | Path,
    raw_dir: str | Path,
    force: bool = False,
    replace: bool = True,
) -> ProcessedDataset:
    """Prepares `source` into the folder `output`, or opens what is there if it was made of the same things.

    A set is reused only if source, settings and format version are the same; why not is logged. The folder appears
    whole or not at all; a second process that prepares the same folder waits for the first.

    Args:
        source: Where the interactions come from.
        settings: Filters and tie order.
        output: Folder of the prepared set.
        raw_dir: Folder of the downloaded files; each source uses its own part of it.
        force: Prepare again even if nothing changed.
        replace: Where `output` holds a set of another source or with other settings, replace it. Without, that is an
            error: one name means one data set. Files that changed are read again in both cases.

    Raises:
        RecsysLabError: for bad input, when a filter leaves nothing, when `output` is a folder of something else, and
            when the disk is full. `NameTakenError`: see `replace`.
    """
    output, raw_dir = Path(output).absolute(), Path(raw_dir).absolute()
    if output.exists() and not output.is_dir():
        raise ForeignFolderError(f"{output} is a file; choose another folder for the prepared data set")
    with exclusive(output):
        found = reused(source, settings, output, raw_dir, force, replace)
        if found is not None:
            return found
        write_set(source, settings, output, raw_dir)
    data = ProcessedDataset.open(output)
    say_remarks(data)
    return data


def reused(
    source: Source, settings: PrepareSettings, output: Path, raw_dir: Path, force: bool, replace: bool
) -> ProcessedDataset | None:
    """What is in `output`, if it was made of the same things: see `prepare`. The caller holds `exclusive(output)`."""
    if not output.exists():
        return None
    found = open_existing(output, source, settings, raw_dir)
    if found.data is not None and not force:
        log.info("reused %s: same source, same settings", found.data)
        say_remarks(found.data)
        return found.data
    if found.is_other and not replace:
        raise NameTakenError(
            f"{output} holds a data set that was prepared otherwise: {found.reason}. Choose another "
            f"{option('name')}, or replace it: {option('replace') if is_command_line() else 'replace=True'}"
        )
    if found.reason:
        log.info("preparing %s again: %s", output, found.reason)
    return None


def say_remarks(data: ProcessedDataset) -> None:
    for remark in remarks(data.manifest):
        log.warning("%s: %s", data.name, remark)


Reader = Callable[[RawTables, PrepareSettings, Wishes, str, FolderWriter, Progress], tuple[Events, list[Step]]]
"""The events that are left after all filters, and what each step left."""


def read_and_filter(
    tables: RawTables,
    settings: PrepareSettings,
    wishes: Wishes,
    source: str,
    writer: FolderWriter,
    progress: Progress,
) -> tuple[Events, list[Step]]:
    """In one process."""
    events = read_events(tables.interactions, settings, wishes, source, writer, progress, tables.before)
    return events, events.steps + apply_count_filters(events.sorted, settings, events.steps[-1], progress)


def write_set(
    source: Source,
    settings: PrepareSettings,
    output: Path,
    raw_dir: Path,
    read: Reader = read_and_filter,
    progress: Progress | None = None,
) -> None:
    """Prepares `source` into the folder `output`, whatever is there. Whoever calls holds `exclusive(output)`."""
    progress = progress or Progress()
    log.info("preparing %s into %s", source.name, output)
    if settings.tie_order == "item_id":
        log.warning(
            "tie_order 'item_id' orders events of equal time by item id: neighbouring ids are often related, "
            "which inflates every metric; use 'file', 'hash' or 'random' for results that you report"
        )
    tables = source.tables(raw_dir)
    fingerprint = source.fingerprint(raw_dir)  # now: files changed from here on must not look like the prepared ones
    with FolderWriter(output) as writer:
        wishes = wishes_of(tables, settings)
        events, steps = read(tables, settings, wishes, source.name, writer, progress)
        for step in steps:
            log.info("  %s", step)
        user_rows, item_rows = (np.flatnonzero(n) for n in (events.sorted.user_counts, events.sorted.item_counts))
        is_anew = source.is_own and tables.before is None  # so that another option can be tried
        for ids, counts, rows in (
            (events.users, events.sorted.user_counts, user_rows),
            (events.items, events.sorted.item_counts, item_rows),
        ):
            warn_of_odd_ids(ids.gather(rows), counts[rows], source.name, is_anew)
        users, user_features = with_features(events.users.gather(user_rows), tables.users, USER_ID, source.name)
        item_ids = events.items.gather(item_rows)
        beside = only_shown(tables.shown, users[USER_ID], item_ids)
        if len(beside):
            log.info("  %s shown and in no event", number_of(len(beside), "item"))
        items, item_features = with_features(item_ids.append(beside), tables.items, ITEM_ID, source.name)
        progress("writing what is left")
        span = _Span()
        _write_arrays(events.sorted, writer, span)
        stored = write_fields(events, users, items, wishes, source.name, writer)
        for field in stored.fields:
            if field.num_values == 1 and not field.missing:
                log.info("  the field %s has one value in all rows", field.key)
        shown = write_shown(tables.shown, users[USER_ID], items[ITEM_ID], wishes, source.name, writer)
        no_twins([field.key for field in (*stored.fields, *shown.fields)], source.name)
        writer.table(USERS, stored.users)
        writer.table(ITEMS, stored.items)
        manifest: dict[str, Any] = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "name": source.name,
            "source": {
                "name": source.name,
                "fingerprint": fingerprint,
                "licence": source.licence,
                "reading": source.reading(),
            },
            "settings": settings.as_dict(),
            "num_users": len(user_rows),
            "num_items": len(items),
            **({"num_only_shown": len(beside)} if len(beside) else {}),
            "num_events": events.sorted.num_kept,
            "num_impressions": shown.num_impressions,
            "num_shown": shown.num_shown,
            "has_timestamps": events.has_time,
            "fields": [field.as_dict() for field in (*stored.fields, *shown.fields)],
            "event_type_counts": events.event_type_counts,
            "binary_column": None if tables.binary is None else asdict(tables.binary),
            "steps": _told(steps, tables.before),
            "first_time": span.first if events.has_time else None,
            "last_time": span.last if events.has_time else None,
            "left_out": {**tables.left_out, **shown.left_out},
            "whole_seconds": events.has_time and not events.has_fractions,
            "tie_share": _tie_share(events.sorted) if events.has_time else None,
            "features": {"users": user_features, "items": item_features},
            "arrays": writer.arrays,
            "tables": writer.tables,
            "vocabulary_hash": _vocabulary_hash(items[ITEM_ID]),
            "versions": {"recsys_lab": __version__, "polars": pl.__version__, "numpy": np.__version__},
            "created": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            "seconds": round(time.perf_counter() - progress.started, 3),
        }
        best = source.best_scores()
        manifest |= {"best_possible": best} if best.get("num_events") == manifest["num_events"] else {}
        manifest |= {} if tables.before is None else tables.before.manifest
        writer.json(MANIFEST, manifest)  # last: a folder with a manifest is whole
        keep_stamp(writer.temporary, stamp_of(writer.temporary, MANIFEST, files_of(manifest)))
        writer.commit()
    if events.has_time:
        assert span.first is not None and span.last is not None
        warn_of_odd_times(span.first, span.last, source.name, is_anew)
    else:
        log.info("%s has no time column: the order in the file, or the order column, stands in", source.name)
    log.info(
        "prepared %s: %s, %s, %s in %.1f s",
        source.name,
        *(number_of(manifest[f"num_{noun}s"], noun) for noun in ("user", "item", "event")),
        manifest["seconds"],
    )


def _told(steps: list[Step], before: Before | None) -> list[dict[str, Any]]:
    """The steps as the manifest has them. Users and items of events that an earlier filter dropped are not known."""
    if before is None:
        return [asdict(step) for step in steps]
    first, *others = steps
    later = {step.name for step in others}
    *singles, last = (name for name in before.gone if name not in later)
    whole = [replace(step, events=step.events + before.gone.get(step.name, 0)) for step in others]
    whole.insert(0, replace(first, name=last, events=first.events + before.gone[last]))
    told = [{"name": name, "events": first.events + before.gone[name]} for name in singles]
    return told + [asdict(step) for step in whole]


def wishes_of(tables: RawTables, settings: PrepareSettings) -> Wishes:
    """What the user says of the further columns of all tables."""
    columns = {"event": further_columns(tables.interactions.collect_schema())}
    for scope, table, key in (("item", tables.items, ITEM_ID), ("user", tables.users, USER_ID)):
        columns[scope] = [] if table is None else [name for name in table.collect_schema().names() if name != key]
    columns["shown"] = [] if tables.shown is None else shown_columns(tables.shown.collect_schema())
    return find_wishes(settings.fields if tables.before is None else tables.before.fields, columns)


@dataclass
class _Span:
    """First and last time of what is written, in unix seconds."""

    first: int | None = None
    last: int | None = None

    def seen(self, times: np.ndarray) -> np.ndarray:
        """`times`, unchanged."""
        if len(times):
            low, high = int(times.min()), int(times.max())
            self.first = low if self.first is None else min(self.first, low)
            self.last = high if self.last is None else max(self.last, high)
        return times


def _write_arrays(events: SortedEvents, writer: FolderWriter, span: _Span) -> None:
    """What is left of the events, block by block."""
    number = np.cumsum(events.item_counts > 0, dtype=np.int32)  # item code -> 1..num_items
    blocks, length = events.blocks, events.num_kept
    writer.array("item_ids", "int32", (number[block.kept("item")] for block in blocks()), length)
    writer.array("timestamps", "int64", (span.seen(_timestamps(block)) for block in blocks()), length)
    left = events.user_counts[events.user_counts > 0]
    writer.array("offsets", "int64", [np.zeros(1), np.cumsum(left)], len(left) + 1)


def _timestamps(block: Block) -> np.ndarray:
    """(n left,) whole seconds (rounded down), or the position within the user where there is no time."""
    if "time" in block.events.columns:
        time = block.kept("time")
        return time if time.dtype == np.int64 else np.floor(time).astype(np.int64)
    left = block.user_counts
    return positions(np.zeros_like(left), left)


def _tie_share(events: SortedEvents) -> float:
    """Share of events whose time another event of the same user has too."""
    tied = 0
    for block in events.blocks():
        moment = block.kept("time")
        same = np.zeros(len(moment) + 1, dtype=bool)  # same[i]: event i has the time and the user of event i - 1
        np.equal(moment[1:], moment[:-1], out=same[1:-1])
        same[np.cumsum(block.user_counts)] = False  # another user's first event
        tied += int(np.count_nonzero(same[1:] | same[:-1]))
    return tied / events.num_kept


def _vocabulary_hash(ids: pl.Series) -> str:
    """16 hex digits of the ids as a JSON list, written a part at a time."""
    digest = hashlib.sha256(b"[")
    for number, part in enumerate(ids.to_frame().iter_slices(1 << 20)):
        digest.update(b", " if number else b"")
        digest.update(json.dumps(part.to_series().to_list())[1:-1].encode())
    digest.update(b"]")
    return digest.hexdigest()[:16]
