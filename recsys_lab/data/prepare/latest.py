"""A column of the events that belongs to the item (or user): its last value, and whether the events agree."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from functools import partial

import numpy as np
import polars as pl

from recsys_lab.data.fields.stored import Scope, StoredField
from recsys_lab.data.fields.writing import FieldWriter, Rows
from recsys_lab.data.prepare.event_fields import EventFields
from recsys_lab.data.prepare.sorted_events import Block, SortedEvents
from recsys_lab.data.prepare.store import FolderWriter

log = logging.getLogger("recsys_lab")


class Latest:
    """For each item (or user) the event that says last what a field is: of all events in the order of time those with a
    value; of equal times, and where there is no time, the last in the prepared order.

    Args:
        fields: the columns of the events.
        ours: which of them, by our name.
        events: sorted and filtered.
        owner: (n left,) 0-based item or user of each event of a block that is left.
        num_owners: how many items or users there are.
    """

    def __init__(
        self,
        fields: EventFields,
        ours: str,
        events: SortedEvents,
        owner: Callable[[Block], np.ndarray],
        num_owners: int,
    ) -> None:
        self.fields, self.ours, self.events, self.owner = fields, ours, events, owner
        self.position = np.full(num_owners, -1, dtype=np.int64)
        """(owners,) the event, of those that are left; -1 where none has a value."""
        self._find()
        self.rows = self._take()
        """(owners,) its values; missing where there is none."""

    def _blocks(self) -> Iterator[tuple[Block, Rows]]:
        return zip(self.events.blocks(), self.fields.rows(self.events, self.ours), strict=True)

    def _find(self) -> None:
        has_time = "time" in self.events.columns
        best = np.full(len(self.position), -np.inf)
        start = 0
        for block, rows in self._blocks():
            known = np.flatnonzero(_is_known(rows))
            who = self.owner(block)[known]
            time = block.kept("time")[known].astype(np.float64) if has_time else np.zeros(len(known))
            order = np.lexsort((known, time, who))
            last = order[np.flatnonzero(np.diff(who[order], append=-1))]  # of each owner
            who, time, at = who[last], time[last], known[last]
            newer = time >= best[who]
            best[who[newer]], self.position[who[newer]] = time[newer], start + at[newer]
            start += len(rows)

    def _take(self) -> Rows:
        wanted = np.sort(self.position[self.position >= 0])
        start, parts = 0, list[Rows]()
        for _, rows in self._blocks():
            low, high = np.searchsorted(wanted, [start, start + len(rows)])
            here = wanted[low:high] - start
            parts.append(rows[here] if isinstance(rows, np.ndarray) else rows.gather(here))
            start += len(rows)
        gone, index = self.position < 0, np.searchsorted(wanted, self.position)
        if isinstance(parts[0], np.ndarray):
            nothing = np.full((1, *parts[0].shape[1:]), np.nan if parts[0].dtype == np.float32 else 0, parts[0].dtype)
            found: np.ndarray = np.concatenate([*parts, nothing])
            return found[np.where(gone, len(found) - 1, index)]
        texts: list[pl.Series] = parts
        series = pl.concat(texts).extend_constant(None, 1)
        return series.gather(np.where(gone, len(series) - 1, index))

    def conflicts(self) -> int:
        """Items (or users) whose events don't all say the same."""
        found = np.zeros(len(self.position), dtype=bool)
        last = _tokens(self.rows)
        for block, rows in self._blocks():
            owner = self.owner(block)
            found[owner[_is_known(rows) & (_tokens(rows) != last[owner])]] = True
        return int(found.sum())


def write_latest(
    fields: EventFields,
    scope: Scope,
    events: SortedEvents,
    owner: Callable[[Block], np.ndarray],
    num_owners: int,
    files: Mapping[str, str],
    writer: FolderWriter,
) -> tuple[list[StoredField], list[pl.Series]]:
    """Writes the fields of items (or users) that are columns of the events; text is returned as columns of the table.
    Says how many items (or users) have more than one value."""
    stored, text = [], []
    for ours, column in fields.of_scope(scope).items():
        latest = Latest(fields, ours, events, owner, num_owners)
        conflicts = latest.conflicts()
        if conflicts:
            log.info(
                "  %s: %d of %d %ss have several values; the last is taken", column.name, conflicts, num_owners, scope
            )
        field = FieldWriter(writer, column, fields.codings.get(ours), files[column.name], conflicts)
        of_events = partial(fields.rows, events, ours)
        stored.append(field.write(partial(iter, [latest.rows]), num_owners, of_events, events.num_kept))
        if column.kind == "text":
            text.append(latest.rows.alias(column.name))
    return stored, text


def _is_known(rows: Rows) -> np.ndarray:
    if isinstance(rows, pl.Series):
        return rows.is_not_null().to_numpy()
    if rows.dtype == np.float32:
        return ~np.isnan(rows if rows.ndim == 1 else rows[:, 0])
    return rows > 0


def _tokens(rows: Rows) -> np.ndarray:
    """A number per row, the same for the same value."""
    if isinstance(rows, pl.Series):
        text = rows.list.eval(pl.element().cast(pl.String)).list.join(",") if rows.dtype != pl.String else rows
        return text.hash(0).to_numpy()
    if rows.ndim == 1:
        return rows
    mixed = np.zeros(len(rows), dtype=np.uint64)
    for column in np.ascontiguousarray(rows).view(np.uint32).T:
        mixed = (mixed ^ column) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
    return mixed
