"""Histories as a caller has them, lists of raw ids or a frame of events -> the flat arrays that batches are made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from recsys_lab.contracts import DataSpec
from recsys_lab.data.batches.event_rules import Rules
from recsys_lab.data.batches.gather import Events
from recsys_lab.data.fitting.fitted_fields import FittedField, FittedFields
from recsys_lab.data.reading.columns import Columns
from recsys_lab.data.reading.frames import as_frame
from recsys_lab.data.reading.table_checks import checked
from recsys_lab.data.reading.times import LATEST
from recsys_lab.data.sessions import SAME_SESSION, is_pause, same_session, starts_of
from recsys_lab.data.split.temporal import seconds_of_window
from recsys_lab.serve.item_ids import ItemIds
from recsys_lab.serve.list_rules import ListRules
from recsys_lab.words import EVENT_TYPE, ITEM_ID, PAD_ID, TIMESTAMP, USER_ID, RecsysLabError

USER_FIELD = "user."
"""What the names of the users' fields begin with."""


@dataclass(frozen=True)
class Histories:
    """Histories of U users that the model may never have seen.

    users: (U,) as the caller names them. events: those whose item the model knows, users back to back.
    given: (U,) events that the caller gave of each.
    has_times: whether they came with times.
    """

    users: pl.Series
    events: Events
    given: np.ndarray
    has_times: bool

    def __len__(self) -> int:
        return len(self.users)

    @property
    def known(self) -> np.ndarray:
        """(U,) events of each user whose item the model knows."""
        return np.diff(self.events.offsets)


@dataclass
class _Raw:
    """What the caller gave, flat. items: raw ids, E of them. seconds: (E,). fields: (E,) or, of users, (U,) values."""

    users: pl.Series
    lengths: np.ndarray
    items: Any
    seconds: np.ndarray | None = None
    fields: dict[str, pl.Series] = field(default_factory=dict)


class HistoryReader:
    """Reads histories for one model.

    Args:
        item_ids: of the model. fields: what it was fed beside them, as it was fitted. spec: the data it was trained on.
        rules: what its lists leave out, which may need the types of events and their sessions.
    """

    def __init__(self, item_ids: ItemIds, fields: FittedFields, spec: DataSpec, rules: ListRules | None = None) -> None:
        self.item_ids, self.spec = item_ids, spec
        self.fields = {one.key: one for one in fields if one.scope in ("event", "user")}
        self.fed = [one for one in self.fields.values() if one.key != SAME_SESSION.key]
        self.marks_sessions = self.fields.pop(SAME_SESSION.key, None) is not None  # nobody gives it: it is found
        own = spec.training.get("window_within") or spec.training.get("sessions")
        self.rules, self.encodes_sessions = rules or ListRules(), own is not None
        self.sessions: str | None = own or self.rules.sessions
        """What ends a session, for a model that was trained with them or whose lists heed them: a field, or a pause."""
        if self.sessions is not None and not is_pause(self.sessions):
            self.fields.setdefault(self.sessions, FittedField(self.sessions, "event", "categorical"))
        if self.rules.types is not None:
            self.fields.setdefault(EVENT_TYPE, FittedField(EVENT_TYPE, "event", "categorical"))

    late: tuple[str, ...] = ()
    """Fields that come one event late, as for `Events`."""

    @property
    def gap(self) -> int:
        """Seconds between two events of which nobody gives the times; 1 for data without time."""
        return max(1, round(self.spec.mean_gap_seconds)) if self.spec.has_timestamps else 1

    def names(self, scope: str | None = None) -> list[str]:
        """Keys of the fields that a caller may give: of events (`event`), of users (`user`), or of both."""
        return [key for key, one in self.fields.items() if scope in (None, one.scope)]

    def check_names(self, keys: Iterable[str], scope: str | None = None, what: str = "fields") -> None:
        """Raises RecsysLabError for one that is not among `names(scope)`."""
        known = self.names(scope)
        for key in keys:
            if key not in known:
                of = " of users" if scope == "user" else ""
                listed = ", ".join(known) or "none"
                raise RecsysLabError(f"{what}: the model is fed no field {key!r}{of}; known: {listed}")

    def read(self, histories: Any, times: Any = None, fields: Mapping[str, Any] | None = None) -> Histories:
        """See `Predictor.recommend`.

        Raises:
            RecsysLabError: for what can't be histories, their times or their fields, naming the user or the row.
        """
        is_frame = hasattr(histories, "collect_schema") or hasattr(histories, "columns")
        if is_frame and times is not None:
            raise RecsysLabError(f"times= is for histories as lists: a frame has them in its column {TIMESTAMP!r}")
        raw = self._of_frame(histories) if is_frame else self._of_lists(histories, times)
        raw.fields |= self._given_fields(fields or {}, raw)
        rows = self.item_ids.rows(raw.items, "histories")
        kept = rows != PAD_ID
        owner = np.repeat(np.arange(len(raw.lengths)), raw.lengths)
        offsets = np.concatenate([[0], np.cumsum(np.bincount(owner[kept], minlength=len(raw.lengths)))])
        seconds = raw.seconds if self.spec.has_timestamps else None
        times_kept = self._positions(offsets) if seconds is None else seconds[kept]
        columns: dict[str, dict[str, Any]] = {"event": {}, "user": {}}
        for one in self.fed:
            values = raw.fields.get(one.key)
            if values is None:
                values = pl.Series(
                    [None] * (len(kept) if one.scope == "event" else len(raw.users)), dtype=one.raw_dtype
                )
            columns[one.scope][one.name] = one.column_of(values.filter(kept) if one.scope == "event" else values)
        start = self._session_starts(offsets, times_kept, raw, kept)
        if self.marks_sessions and start is not None:
            columns["event"][SAME_SESSION.name] = same_session(start)
        events = Events(
            rows[kept].astype(np.int32),
            times_kept,
            offsets,
            columns["event"],
            user_fields=columns["user"],
            rules=Rules(hides=self._hides(raw, kept), session_start=start),
            late=self.late,
        )
        return Histories(raw.users, events, raw.lengths, seconds is not None)

    def _positions(self, offsets: np.ndarray) -> np.ndarray:
        """(E,) times where nobody gives them: 0, 1, 2, .. within each user, as in data without time; of a model that
        was trained with times, as many mean gaps of its training."""
        place = np.arange(offsets[-1]) - np.repeat(offsets[:-1], np.diff(offsets))
        return place.astype(np.int64) * self.gap

    def _session_starts(
        self, offsets: np.ndarray, seconds: np.ndarray, raw: _Raw, kept: np.ndarray
    ) -> np.ndarray | None:
        """As `data/sessions.py` has it; None where the model knows no sessions. Where nobody names them, all events of
        a user are of one."""
        if self.sessions is None:
            return None
        if self.sessions not in self.fields:
            return starts_of(offsets, seconds, seconds_of_window(self.sessions))
        named = raw.fields.get(self.sessions)
        codes = pl.Series([0] * len(seconds)) if named is None else named.filter(kept).rank("dense").fill_null(0)
        return starts_of(offsets, codes.to_numpy())

    def _hides(self, raw: _Raw, kept: np.ndarray) -> np.ndarray | None:
        """(E,) bool: events of the types whose items lists leave out; none where nobody says the type."""
        if self.rules.types is None:
            return None
        types = raw.fields.get(EVENT_TYPE)
        if types is None:
            return np.zeros(int(kept.sum()), dtype=bool)
        names = types.filter(kept).cast(pl.String)
        return names.is_in(list(self.rules.types)).fill_null(False).to_numpy()

    # -- lists ---------------------------------------------------------------------------------------------------------

    def _of_lists(self, histories: Any, times: Any) -> _Raw:
        users: Sequence[Any]
        if isinstance(histories, Mapping):
            users, lists = list(histories), list(histories.values())
        else:
            lists = list(_sequence(histories, "histories"))
            users = range(len(lists))
        for user, history in zip(users, lists, strict=True):
            _sequence(history, f"the history of user {user!r}")
        lengths = np.array([len(history) for history in lists], dtype=np.int64)
        raw = _Raw(_series(users, "users"), lengths, [item for history in lists for item in history])
        if times is not None:
            flat = _flat(times, raw, "times")
            raw.seconds = seconds_of(_series(flat, "times"), "times")
            back = np.flatnonzero(np.diff(raw.seconds) < 0)
            inside = back[~np.isin(back + 1, np.cumsum(lengths))]
            if len(inside):
                user = users[int(np.searchsorted(np.cumsum(lengths), inside[0], side="right"))]
                raise RecsysLabError(f"times of user {user!r} go back: a history is oldest first; sort its events")
        return raw

    def _given_fields(self, fields: Mapping[str, Any], raw: _Raw) -> dict[str, pl.Series]:
        self.check_names(fields)
        found = {}
        for key, values in fields.items():
            if self.fields[key].scope == "event":
                values = _flat(values, raw, f"fields[{key!r}]")
            elif len(_sequence(values, f"fields[{key!r}]")) != len(raw.users):
                raise RecsysLabError(
                    f"fields[{key!r}] has {len(values)} values, and there are {len(raw.users)} users: one of each"
                )
            found[key] = typed(self.fields[key], values)
        return found

    # -- frames --------------------------------------------------------------------------------------------------------

    def _of_frame(self, histories: Any) -> _Raw:
        frame = as_frame(histories, "histories")
        if not frame.height:
            return _Raw(pl.Series([], dtype=pl.String), np.zeros(0, dtype=np.int64), [])
        columns = Columns().resolve(frame.columns, "the histories")
        further = [key for key in self.fields if key in frame.columns and key not in columns.values()]
        events = checked(frame.lazy(), columns, "the histories", further=further).events.collect()
        users = events[USER_ID].unique(maintain_order=True)
        place = events[[USER_ID]].join(
            users.to_frame().with_row_index("place"), on=USER_ID, how="left", maintain_order="left"
        )["place"]
        by = ["place", *(name for name in (TIMESTAMP, "order") if name in events.columns)]
        events = events.with_columns(place).sort(by, maintain_order=True)
        lengths = np.bincount(events["place"].to_numpy(), minlength=len(users)).astype(np.int64)
        raw = _Raw(users, lengths, events[ITEM_ID])
        if TIMESTAMP in events.columns:
            raw.seconds = seconds_of(events[TIMESTAMP], "times")
        for key in [key for key in self.fields if key in events.columns]:
            values = events[key]
            if self.fields[key].scope == "user":  # the value of a user's newest event
                values = values.gather(np.cumsum(lengths) - 1)
            raw.fields[key] = typed(self.fields[key], values)
        return raw


def seconds_of(times: pl.Series, what: str) -> np.ndarray:
    """(N,) seconds since 1970, or dates with times -> (N,) int64.

    Raises:
        RecsysLabError: for what is missing, no time, or outside 1970 to 5138.
    """
    if times.dtype in (pl.Date, pl.Datetime):
        times = times.dt.epoch("s")
    if not len(times):
        return np.zeros(0, dtype=np.int64)
    if not times.dtype.is_numeric():
        raise RecsysLabError(f"{what} must be seconds since 1970 or datetimes, and the first is {times[0]!r}")
    numbers = times.cast(pl.Float64)
    bad = (numbers.is_null() | ~numbers.is_finite().fill_null(False) | (numbers < 0) | (numbers >= LATEST)).arg_true()
    if len(bad):
        raise RecsysLabError(f"{what} must be seconds since 1970 (up to the year 5138), not {times[int(bad[0])]!r}")
    return times.cast(pl.Int64).to_numpy().copy()


def typed(one: FittedField, values: Any) -> pl.Series:
    """Values as a caller has them -> a Series that `FittedField.column_of` takes."""
    if isinstance(values, pl.Series):
        return values
    values = list(values)
    if all(value is None for value in values):
        return pl.Series(values, dtype=one.raw_dtype)
    return _series(values, f"fields[{one.key!r}]")


def _flat(values: Any, raw: _Raw, what: str) -> list[Any]:
    """Values of each event, a list for each user as the histories have them, one after the other."""
    lists = list(values.values() if isinstance(values, Mapping) else _sequence(values, what))
    lengths = [len(_sequence(one, f"each entry of {what}")) for one in lists]
    if len(lengths) != len(raw.lengths):
        raise RecsysLabError(f"{what} has {len(lengths)} lists, and there are {len(raw.lengths)} histories")
    wrong = np.flatnonzero(np.array(lengths, dtype=np.int64) != raw.lengths)
    if len(wrong):
        place = int(wrong[0])
        raise RecsysLabError(
            f"{what} of user {raw.users[place]!r} has {lengths[place]} values, its history {raw.lengths[place]} events"
        )
    return [value for one in lists for value in one]


def _sequence(value: Any, what: str) -> Any:
    if isinstance(value, str | bytes) or not isinstance(value, Iterable) or not hasattr(value, "__len__"):
        raise RecsysLabError(
            f"{what} must be a list, not {value!r}: histories are lists of item ids, one for each user "
            "([['a', 'b'], ['c']]), or a frame of events"
        )
    return value


def _series(values: Any, what: str) -> pl.Series:
    try:
        return pl.Series(list(values))
    except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError) as error:
        raise RecsysLabError(f"{what} hold values of several types: {str(error).splitlines()[0]}") from error
