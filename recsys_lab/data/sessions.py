"""Sessions: stretches of a user's events, as a column names them or as pauses end them."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import polars as pl

from recsys_lab.data.batches.field_columns import CategoricalColumn
from recsys_lab.data.fields.stored import check_named
from recsys_lab.data.fitting.fitted_fields import FittedField
from recsys_lab.data.split.temporal import seconds_of_window
from recsys_lab.words import RecsysLabError

PAUSE = re.compile(r"[1-9]\d{0,8}[smhdw]")


SAME_SESSION = FittedField("same_session", "event", "categorical", values=pl.Series(["no", "yes"]))
"""Whether an event goes on with the session of the event before it; nothing of it is fitted."""


def same_session(session_start: np.ndarray) -> CategoricalColumn:
    """(E,) first event of each event's session -> the column of `SAME_SESSION`."""
    goes_on = session_start != np.arange(len(session_start))
    return CategoricalColumn(goes_on.astype(np.uint8) + 1, SAME_SESSION.table_row(SAME_SESSION.values))


def session_starts(data: Any, sessions: str) -> np.ndarray:
    """(E,) int64: the position of the first event of the session that an event is in.

    Args:
        data: `ProcessedDataset`.
        sessions: a categorical field of the events, a session of which ends where its value changes; or the pause that
            ends one, a number with s, m, h, d or w: `30m`.

    Raises:
        RecsysLabError: for a field that is not there or of another kind, and for a pause without times.
    """
    if sessions in data.fields or not is_pause(sessions):
        advice = "name a categorical field of the events ({known}) or a pause such as 30m"
        check_named(data.fields, sessions, "event", "categorical", "--data.sessions", advice)
        return starts_of(np.asarray(data.offsets), np.asarray(data.field_array(sessions)))
    if not data.has_timestamps:
        raise RecsysLabError(f"--data.sessions {sessions} is a pause, and {data.name} has no times: name a field")
    return starts_of(np.asarray(data.offsets), np.asarray(data.timestamps), seconds_of_window(sessions))


def is_pause(sessions: str) -> bool:
    """Whether it has the form of a pause, `30m`, and not only that of a field."""
    return PAUSE.fullmatch(sessions) is not None


def starts_of(offsets: np.ndarray, values: np.ndarray, pause: int | None = None) -> np.ndarray:
    """(U + 1,) offsets of users and (E,) codes, or times with a pause in seconds -> as `session_starts`."""
    begins = np.zeros(len(values), dtype=bool)
    begins[offsets[:-1][np.diff(offsets) > 0]] = True
    begins[1:] |= values[1:] != values[:-1] if pause is None else np.diff(values) > pause
    found: np.ndarray = np.maximum.accumulate(np.where(begins, np.arange(len(begins)), 0))
    return found
