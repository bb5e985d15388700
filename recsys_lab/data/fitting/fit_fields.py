"""The fields of a prepared data set and the training part of a split -> `FittedFields`."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl

from recsys_lab.contracts import Kind, KnownAt, Scope
from recsys_lab.data.fitting.fitted_fields import FittedField, FittedFields
from recsys_lab.words import EVENT_TYPE, RecsysLabError

FieldChoice = list[str] | Literal["all"] | None
AT_ONCE = 1 << 22
"""Rows that are looked at in one piece."""
DIGITS = 7
"""Of mean and deviation: the sums of two machines may differ in the last bits, their hashes must not."""

Rows = Iterable[tuple[slice, np.ndarray]]
"""Pieces of the rows of a scope, and (rows,) bool in each: those of the training part."""


def choose_fields(known: Mapping[str, Any], choice: FieldChoice) -> list[str]:
    """The keys of the fields that a model is fed.

    Args:
        known: the fields of the data set, by key.
        choice: keys; `all` but texts; None = the event type, where there is one.

    Raises:
        RecsysLabError: for a field that is not there, is named twice, or is a text.
    """
    if choice is None:
        return [key for key in known if key == EVENT_TYPE and known[key].kind == "categorical"]
    if choice == "all":
        return [key for key, stored in known.items() if stored.kind != "text"]
    for place, key in enumerate(choice):
        if key not in known:
            near = [k for k in known if k.endswith(f".{key}")] or difflib.get_close_matches(key, known, 1)
            hint = f". Did you mean {near[0]!r}?" if near else ""
            raise RecsysLabError(
                f"data.fields: unknown field {key!r}; known: {', '.join(sorted(known)) or 'none'}{hint}"
            )
        if key in choice[:place]:
            raise RecsysLabError(f"data.fields names {key!r} twice")
        if known[key].kind == "text":
            raise RecsysLabError(
                f"data.fields: {key!r} is text, which is kept for people and fed to no model; declare another kind "
                f"when the data is prepared, such as --fields {key.rpartition('.')[2]}=categorical"
            )
    return list(choice)


def training_events(offsets: np.ndarray, train_stop: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Pieces of the events, and which of each train: those of user u from `offsets[u]` to `train_stop[u]`."""
    total = int(offsets[-1])
    for start in range(0, total, AT_ONCE):
        stop = min(start + AT_ONCE, total)
        first, last = np.searchsorted(offsets, [start, stop - 1], side="right") - 1
        bounds = np.clip(offsets[first : last + 2], start, stop)
        until = np.repeat(train_stop[first : last + 1], np.diff(bounds))
        yield slice(start, stop), np.arange(start, stop) < until


def fit_fields(
    data: Any, keys: Iterable[str], train_stop: np.ndarray, item_counts: Callable[[], np.ndarray]
) -> FittedFields:
    """What the training part knows of these fields: training events, and the items and users that have one.

    Args:
        data: `ProcessedDataset`.
        keys: of its fields.
        train_stop: (U,) int64 of the split. item_counts: -> (V,) training events of each item.
    """
    offsets = np.asarray(data.offsets)

    def rows_of(scope: Scope) -> Rows:
        if scope == "event":
            return training_events(offsets, train_stop)
        trains = item_counts()[1:] > 0 if scope == "item" else train_stop > offsets[:-1]
        return [(slice(0, len(trains)), trains)]

    return FittedFields(tuple(_fit(data, key, rows_of) for key in keys))


def _fit(data: Any, key: str, rows_of: Callable[[Scope], Rows]) -> FittedField:
    stored, array = data.fields[key], np.asarray(data.field_array(key))
    about: dict[str, Any] = {
        "name": stored.name,
        "scope": stored.scope,
        "kind": stored.kind,
        "known_at": stored.known_at,
    }
    if stored.kind == "numeric":
        mean, std = _mean_and_std(array[piece][trains] for piece, trains in rows_of(stored.scope))
        return FittedField(**about, mean=mean, std=std)
    if stored.kind == "vector":
        return FittedField(**about, dimension=array.shape[1])
    has = np.zeros(stored.num_values + 1, dtype=bool)
    offsets = np.asarray(data.field_offsets(key)) if stored.kind == "multi" else None
    for piece, trains in rows_of(stored.scope):
        if offsets is None:
            has[array[piece][trains]] = True
        else:
            start, stop = int(offsets[piece.start]), int(offsets[piece.stop])
            has[array[start:stop][np.repeat(trains, np.diff(offsets[piece.start : piece.stop + 1]))]] = True
    values = data.field_values(key).filter(has[1:])
    return FittedField(**about, values=values, width=stored.width if offsets is not None else 1)


def _mean_and_std(pieces: Iterable[np.ndarray]) -> tuple[float, float]:
    """Of the numbers that are there; 0 and 1 where none is, and a deviation of 1 where all are equal."""
    count, mean, squares = 0, 0.0, 0.0
    for piece in pieces:  # joined as in Chan et al. 1979, "Updating Formulae and a Pairwise Algorithm"
        piece = piece[~np.isnan(piece)].astype(np.float64)
        if not len(piece):
            continue
        own = float(piece.mean())
        total, difference = count + len(piece), own - mean
        squares += float(np.square(piece - own).sum()) + difference**2 * count * len(piece) / total
        mean, count = mean + difference * len(piece) / total, total
    std = float(np.sqrt(squares / count)) if count else 1.0
    mean, std = (float(f"{value:.{DIGITS}g}") for value in (mean, std))
    return mean, std if std > 1e-9 * abs(mean) else 1.0


@dataclass(frozen=True)
class _EventType:
    name: str
    scope: Scope
    kind: Kind
    known_at: KnownAt
    num_values: int


class _WithEventTypes:
    """A data set that was prepared before there were other fields than event types."""

    def __init__(self, data: Any) -> None:
        self.data = data
        types = data.num_event_types
        self.fields = {EVENT_TYPE: _EventType(EVENT_TYPE, "event", "categorical", "before", types)} if types else {}

    def field_array(self, key: str) -> np.ndarray:
        return np.asarray(self.data.event_types)

    def field_values(self, key: str) -> pl.Series:
        return pl.Series(self.data.event_type_names, dtype=pl.String)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.data, name)


def with_fields(data: Any) -> Any:
    return data if hasattr(data, "fields") else _WithEventTypes(data)
