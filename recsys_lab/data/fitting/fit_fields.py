"""The fields of a prepared data set and the training part of a split -> `FittedFields`."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import numpy as np

from recsys_lab.batch import Scope
from recsys_lab.data.batches.field_columns import Knots, NumericScale, rescaled
from recsys_lab.data.fitting.fitted_fields import FittedField, FittedFields
from recsys_lab.data.fitting.stored_values import Rows, training_events, training_impressions, values_of
from recsys_lab.data.split.split_rule import SplitResult
from recsys_lab.words import EVENT_TYPE, RecsysLabError

FieldChoice = list[str] | Literal["all"] | None
Numerics = NumericScale | dict[str, NumericScale]
DIGITS = 7
"""Of mean and deviation: the sums of two machines may differ in the last bits, their hashes must not."""
KNOTS = 101
"""Of the scale `quantile`: each hundredth."""


def choose_fields(known: Mapping[str, Any], choice: FieldChoice, split_column: str | None = None) -> list[str]:
    """The keys of the fields that a model is fed.

    Args:
        known: the fields of the data set, by key.
        choice: keys; `all` but texts; None = the event type, where there is one.
        split_column: that says which events train: fed to no model.

    Raises:
        RecsysLabError: for a field that is not there, is named twice, or is a text.
    """
    if choice is None:
        return [key for key in known if key == EVENT_TYPE and known[key].kind == "categorical"]
    if choice == "all":
        return [key for key, stored in known.items() if stored.kind != "text" and key != split_column]
    for place, key in enumerate(choice):
        if key not in known:
            name = key.rpartition(".")[2]  # the name counts first: `item.price` may be the `price` of the events
            near = [k for k in known if k.rpartition(".")[2] == name] or difflib.get_close_matches(key, known, 1)
            hint = f". Did you mean {near[0]!r}?" if near else ""
            if key == "same_session":
                hint = "; this one needs --data.sessions: a field of the events or a pause (30m)"
            raise RecsysLabError(
                f"--data.fields: unknown field {key!r}; known: {', '.join(sorted(known)) or 'none'}{hint}"
            )
        if key in choice[:place]:
            raise RecsysLabError(f"--data.fields names {key!r} twice")
        if key == split_column:
            raise RecsysLabError(f"--data.fields: {key!r} says which events train (data.split.column): leave it out")
        if known[key].kind == "text":
            raise RecsysLabError(
                f"--data.fields: {key!r} is text, which is kept for people and fed to no model; declare another kind "
                f"when the data is prepared, such as --fields {key.rpartition('.')[2]}=categorical"
            )
    return list(choice)


def scale_of(numerics: Numerics, keys: Iterable[str], known: Mapping[str, Any]) -> dict[str, NumericScale]:
    """The scale of each numeric field that is fed.

    Raises:
        RecsysLabError: for a name that is no numeric field which is fed.
    """
    numeric = [key for key in keys if known[key].kind == "numeric"]
    if isinstance(numerics, str):
        return dict.fromkeys(numeric, numerics)
    for key in numerics:
        if key not in numeric:
            problem = f"is {known[key].kind}" if key in known else "is no field of the data"
            problem = "is not fed (--data.fields)" if key in known and known[key].kind == "numeric" else problem
            raise RecsysLabError(
                f"--data.numerics: {key!r} {problem}; numeric fields that are fed: {', '.join(numeric) or 'none'}"
            )
    return {key: numerics.get(key, "standard") for key in numeric}


def fit_fields(
    data: Any,
    keys: Iterable[str],
    split: SplitResult,
    item_counts: Callable[[], np.ndarray],
    numerics: Numerics = "standard",
) -> FittedFields:
    """What the training part knows of these fields: training events, the items and users that have one, and what was
    shown before anything is held out.

    Args:
        data: `ProcessedDataset`.
        keys: of its fields.
        item_counts: -> (V,) training events of each item.
        numerics: how numbers are scaled: one way for all, or by key.
    """
    keys = list(keys)
    scales = scale_of(numerics, keys, data.fields)
    offsets, stop = np.asarray(data.offsets), split.train_stop

    def rows_of(scope: Scope) -> Rows:
        if scope == "event":
            return training_events(offsets, stop)
        if scope == "shown":
            count = np.diff(data.arrays["shown/offsets"])
            trains = np.repeat(training_impressions(data, offsets, stop, split.cut_time), count)
        else:
            trains = item_counts()[1:] > 0 if scope == "item" else stop > offsets[:-1]
        return [(slice(0, len(trains)), trains)]

    return FittedFields(tuple(_fit(data, key, rows_of, stop, scales.get(key, "standard")) for key in keys))


def _fit(
    data: Any, key: str, rows_of: Callable[[Scope], Rows], train_stop: np.ndarray, scale: NumericScale
) -> FittedField:
    stored, rows = data.fields[key], rows_of(data.fields[key].scope)
    about = {name: getattr(stored, name) for name in ("name", "scope", "kind", "known_at")}
    if stored.kind == "vector":
        return FittedField(**about, dimension=stored.width)
    values = values_of(data, key, train_stop)
    pieces: Iterable[np.ndarray] = (values.in_rows(piece, trains) for piece, trains in rows)
    if stored.kind == "numeric":
        knots: Knots = ()
        if scale == "quantile":
            kept = [piece[~np.isnan(piece)] for piece in pieces]
            knots, pieces = _knots(np.concatenate([np.zeros(0, np.float32), *kept])), kept
        mean, std = _mean_and_std(rescaled(piece, scale, knots) for piece in pieces)
        return FittedField(**about, mean=mean, std=std, scale=scale, knots=tuple(knots))
    has = np.zeros(stored.num_values + 1, dtype=bool)
    for codes in pieces:
        has[codes] = True
    return FittedField(**about, values=data.field_values(key).filter(has[1:]), width=stored.width)


def _knots(values: np.ndarray) -> Knots:
    """Of (N,) numbers of the training part: hundredths of them, each value once, with the mean share of its equals."""
    if not len(values):
        return ()
    shares = np.linspace(0, 1, KNOTS)
    at = np.quantile(values, shares)
    distinct, first, count = np.unique(at, return_index=True, return_counts=True)
    share = (shares[first] + shares[first + count - 1]) / 2
    return tuple((float(f"{a:.{DIGITS}g}"), float(f"{s:.{DIGITS}g}")) for a, s in zip(distinct, share, strict=True))


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
