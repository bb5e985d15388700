"""The rounds in which tasks prepare a log: what `prepare` does in one process, with the same code and the same result.

raw        each piece of the files is asked what must be known of all rows: types, units (`reading/asks.py`)
split      each piece is divided by a hash of the user into parts
part       each part is asked for its users, items, event types and the values of fields; the answers are merged
sorted     each part is coded, sorted, and filtered within users
pass-K     each part drops rare items and short users; how often items are left is merged, until nothing changes
write      one task puts the parts together, block by block, and writes the prepared set
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import polars as pl

from recsys_lab.data.fields.wishes import Wishes
from recsys_lab.data.prepare import filters
from recsys_lab.data.prepare.events import Events, Looked, look, readable, sort
from recsys_lab.data.prepare.filters import Step, filters_within_users, require_events
from recsys_lab.data.prepare.pipeline import wishes_of, write_set
from recsys_lab.data.prepare.prepare_settings import PrepareSettings
from recsys_lab.data.prepare.progress import Progress
from recsys_lab.data.prepare.sorted_events import USER_COUNTS, SortedEvents
from recsys_lab.data.prepare.store import FolderWriter, exclusive
from recsys_lab.data.prepare.tie_order import hashed_ids
from recsys_lab.data.reading.asks import Paused, Replay, answered_by, merge, merged_of
from recsys_lab.data.reading.file_source import FileSource
from recsys_lab.data.reading.parts import Piece
from recsys_lab.data.reading.source import RawTables
from recsys_lab.data.shards.joined_events import JoinedEvents
from recsys_lab.data.shards.task_queue import TaskQueue
from recsys_lab.words import ITEM_ID, USER_ID, number_of

log = logging.getLogger("recsys_lab")

PART, COUNTS, KEEP = "_part", "counts.arrow", "keep.npy"


@dataclass(frozen=True)
class Filtered:
    """What all rounds but the last leave.

    Attributes:
        looked: what is known of all events.
        steps: what each filter left.
        item_counts: events that are left of each item.
        last: the round that says which events are left.
    """

    looked: Looked
    steps: list[Step]
    item_counts: np.ndarray
    last: str


class Rounds:
    """Goes through all rounds, and does in each the tasks that nobody else does.

    Args:
        source, settings, raw_dir: as of `pipeline.prepare`.
        parts: in how many the users are divided.
        queue: where the tasks are taken from.
    """

    def __init__(
        self, source: FileSource, settings: PrepareSettings, raw_dir: Path, parts: int, queue: TaskQueue
    ) -> None:
        self.source, self.settings, self.raw_dir, self.parts = source, settings, raw_dir, parts
        self.queue, self.root = queue, queue.root
        self.log_alone = replace(source, items=None, users=None, items_column=None, users_column=None)
        self.progress = Progress()

    def filtered(self) -> Filtered:
        """All rounds but the last."""
        plan = self._round("plan", 1, self._plan) / f"{0:05d}" / "pieces.json"
        pieces = [Piece(*one) for one in json.loads(plan.read_text())]
        self._asked("raw", len(pieces), lambda piece: self._raw(None if piece is None else pieces[piece]))
        self._round("split", len(pieces), lambda number, to: self._split(number, pieces[number], to))
        looked: list[Looked] = []
        self._asked("part", self.parts, lambda part: looked.append(self._look(part)))
        return self._filters(looked[-1])

    def _round(self, name: str, number: int, task: Callable[[int, Path], None]) -> Path:
        self.progress(f"{name}, {number_of(number, 'task')}")
        return self.queue.do(name, number, task)

    def _plan(self, number: int, to: Path) -> None:
        """Also makes the copies of files that can't be read as they are."""
        pieces = self.source.pieces(self.raw_dir)
        (to / "pieces.json").write_text(json.dumps([[one.file, one.start, one.length] for one in pieces]))

    # -- before the parts ----------------------------------------------------------------------------------------------

    def _asked(self, name: str, pieces: int, program: Callable[[int | None], object]) -> None:
        """All questions of a program: first to the whole, which raises what there is to raise, then to each piece."""
        number = 0
        while True:
            try:
                with self._known(name):
                    program(None)
                return
            except Paused as paused:
                number = paused.number

            def answer(piece: int, to: Path) -> None:
                try:
                    with self._known(name, piece):
                        program(piece)
                except Paused as paused:
                    paused.write(to)

            home = self._round(f"{name}-{number}", pieces, answer)
            self._round(merged_of(home).name, 1, partial(_merge, home, pieces))

    @contextmanager
    def _known(self, name: str, piece: int | None = None) -> Iterator[Replay]:
        """Answers what is known. What is to be said of a log is said once, when the set is written."""
        before = log.level
        log.setLevel(logging.ERROR)
        try:
            replay = Replay(self.root / name, piece)
            with answered_by(replay):
                yield replay
        finally:
            log.setLevel(before)

    def _raw(self, piece: Piece | None) -> pl.LazyFrame:
        return self.log_alone.log(self.raw_dir, piece).events

    def _split(self, number: int, piece: Piece, to: Path) -> None:
        with self._known("raw", number) as known:
            events = self._raw(piece)
        row = row_name(events.collect_schema())
        events = events.with_row_index(row, offset=known.rows_before)
        ids = events.select(USER_ID).unique().collect(engine="streaming")
        own = ids.with_columns(pl.Series(PART, hashed_ids(ids[USER_ID]) % np.uint64(self.parts)).cast(pl.UInt32))
        events.join(own.lazy(), on=USER_ID, how="left").sink_ipc(
            pl.PartitionBy(to, key=PART, include_key=False), mkdir=True, maintain_order=False, engine="streaming"
        )

    def _look(self, part: int | None) -> Looked:
        with self._known("raw"):
            whole = self._raw(None)
        schema = whole.collect_schema()
        row = row_name(schema)
        if part is None:
            events = whole.with_row_index(row)
        else:
            nothing = pl.DataFrame(schema={row: pl.get_index_type(), **schema})
            folders = sorted((self.root / "split").glob(f"[0-9]*/{PART}={part}"))
            files = [file for folder in folders for file in sorted(folder.iterdir())]
            events = pl.scan_ipc(files).select(nothing.columns) if files else nothing.lazy()
        return look(events, self.settings, self._wishes, self.source.name, Progress(), row=row)

    @cached_property
    def _wishes(self) -> Wishes:
        with self._known("raw") as known:
            known.unknown = "ask"  # the tables of items and users are not divided
            return wishes_of(self.source.tables(self.raw_dir), self.settings)

    # -- the parts -----------------------------------------------------------------------------------------------------

    def _filters(self, looked: Looked) -> Filtered:
        settings, num_items = self.settings, looked.counted.items.height
        done = self._round("sorted", self.parts, self._sort)
        for inner in (self.root / "split").glob("[0-9]*/*"):  # as large as the log, and not needed any more
            shutil.rmtree(inner, ignore_errors=True)
        counts, steps, left = np.zeros(num_items, np.int64), list(looked.counted.steps), self._left(done)
        counts += self._items(done, num_items)
        for name in filters_within_users(settings):
            steps.append(replace(steps[-1], name=name, events=left[name]))
        current, number = "sorted", 0

        def after(name: str, drop: Callable[[SortedEvents], None]) -> None:
            nonlocal counts, left, current
            before = current
            home = self._round(name, self.parts, lambda part, to: self._drop(part, to, before, drop))
            counts = counts - self._items(home, num_items)
            left, current = self._left(home), name

        def step(name: str) -> None:
            steps.append(Step(name, left["events"], left["users"], int(np.count_nonzero(counts))))
            require_events(steps[-1], steps[-2])

        if settings.min_user_events > 1 or settings.min_item_events > 1:
            while True:
                events, rare, number = left["events"], counts < settings.min_item_events, number + 1
                after(f"pass-{number}", partial(filters.k_core_pass, rare=rare, settings=settings))
                if left["events"] == events or not settings.k_core_iterate:
                    break
            step(filters.name_of_core(settings))
        if settings.min_length > 1:
            after("length", partial(filters.drop_short_users, settings=settings))
            step(filters.name_of_length(settings))
        return Filtered(looked, steps, counts, current)

    def _sort(self, part: int, to: Path) -> None:
        with self._known("part", part):
            looked = self._look(part)
        users, left = looked.counted.users, {"events": 0, "users": 0}
        users.select(USER_ID).write_ipc(to / "users.arrow")
        left |= dict.fromkeys(filters_within_users(self.settings), 0)
        if users.height:
            with readable(self.source.name):
                events = sort(looked, self.settings, to, Progress(), in_memory=False)
            first = len(looked.counted.steps)
            left |= {one.name: one.events for one in events.steps[first:]}
            left |= {"events": events.sorted.num_kept, "users": users.height}
            events.sorted.save()
            _write_counts(events.sorted.item_counts, to)
        else:
            _write_counts(np.zeros(0, np.int64), to)
        (to / "left.json").write_text(json.dumps(left))

    def _drop(self, part: int, to: Path, before: str, drop: Callable[[SortedEvents], None]) -> None:
        events = self._load(part, before)
        if events is not None:
            events.item_counts = np.zeros(self._num_items, np.int64)
            drop(events)
            np.save(to / KEEP, events.keep)
            np.save(to / USER_COUNTS, events.user_counts)
            left = {"events": events.num_kept, "users": int(np.count_nonzero(events.user_counts))}
            _write_counts(-events.item_counts, to)
        else:
            left = {"events": 0, "users": 0}
            _write_counts(np.zeros(0, np.int64), to)
        (to / "left.json").write_text(json.dumps(left))

    def _load(self, part: int, after: str, mapped: bool = False) -> SortedEvents | None:
        """The events of a part, with what is left of them after a round; None where it never had any. mapped: which
        are left is not held in memory, and can't be changed."""
        folder = self.root / "sorted" / f"{part:05d}"
        if not (folder / USER_COUNTS).is_file():
            return None
        events = SortedEvents.load(folder)
        if after != "sorted":
            left = self.root / after / folder.name
            _ = events.offsets  # of all events, before the counts are those of what is left
            events.keep = np.load(left / KEEP, mmap_mode="r" if mapped else None)
            events.user_counts = np.load(left / USER_COUNTS)
        return events

    def _left(self, home: Path) -> dict[str, int]:
        found: dict[str, int] = {}
        for part in range(self.parts):
            for name, count in json.loads((home / f"{part:05d}" / "left.json").read_text()).items():
                found[name] = found.get(name, 0) + count
        return found

    def _items(self, home: Path, num_items: int) -> np.ndarray:
        self._num_items = num_items
        found = np.zeros(num_items, np.int64)
        for part in range(self.parts):
            some = pl.read_ipc(home / f"{part:05d}" / COUNTS)
            found[some["item"].to_numpy()] += some["count"].to_numpy()
        return found

    # -- all together --------------------------------------------------------------------------------------------------

    def write(self, found: Filtered, output: Path, check: Callable[[], None]) -> None:
        """The last round. check: raises where the files are not what they were."""
        looked = found.looked

        def joined(
            tables: RawTables, settings: PrepareSettings, wishes: Wishes, source: str, writer: FolderWriter, _: Progress
        ) -> tuple[Events, list[Step]]:
            events, users = self._joined(found)
            writer.need(events.num_kept * (16 + looked.fields.bytes_per_event) + (1 << 16))
            of, items = looked.counted, looked.counted.items[ITEM_ID]
            types, names = of.event_type_counts, of.event_type_names
            return Events(events, users, items, types, names, found.steps, looked.fields), found.steps

        def write(number: int, to: Path) -> None:
            with exclusive(output), answered_by(Replay(self.root / "raw", unknown="ask")):
                check()
                write_set(self.source, self.settings, output, self.raw_dir, joined, self.progress)

        self._round("write", 1, write)
        self.queue.end()

    def _joined(self, found: Filtered) -> tuple[JoinedEvents, pl.Series]:
        ids, parts = list[pl.DataFrame](), list[SortedEvents]()
        for part in range(self.parts):
            if (events := self._load(part, found.last, mapped=True)) is not None:
                users = pl.read_ipc(self.root / "sorted" / f"{part:05d}" / "users.arrow")
                ids.append(users.with_columns(pl.lit(len(parts), pl.UInt16).alias(PART)))
                parts.append(events)
        users = pl.concat(ids).sort(USER_ID).rechunk()
        of_part = users[PART].to_numpy()
        codes = [np.flatnonzero(of_part == number) for number in range(len(parts))]
        return JoinedEvents(parts, codes, users.height, found.item_counts), users[USER_ID]


def row_name(schema: pl.Schema) -> str:
    """A name for the number of a row that no column has."""
    name = "_row"
    while name in schema:
        name += "_"
    return name


def _write_counts(counts: np.ndarray, to: Path) -> None:
    """Of the items that have any."""
    items = np.flatnonzero(counts)
    pl.DataFrame({"item": items, "count": counts[items]}).write_ipc(to / COUNTS)


def _merge(home: Path, pieces: int, number: int, to: Path) -> None:
    merge(home, pieces, to)
