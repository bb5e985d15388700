"""Frames in memory as a source: polars, or pandas (which recsys_lab itself does not need)."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl

from recsys_lab.data.reading.columns import LABEL, Columns, label_column
from recsys_lab.data.reading.source import RawTables, Source
from recsys_lab.data.reading.table_checks import STRICT, Checked, Rules, checked, needs_time
from recsys_lab.words import ITEM_ID, USER_ID, RecsysLabError

HASHED_AT_ONCE = 1 << 20


class FrameSource(Source):
    """Interactions, and features of items and users, from frames.

    Args:
        events: one row per event: polars DataFrame or LazyFrame, pandas DataFrame, or a dict of columns.
        items: one row per item, with the column named as `columns.item` (default `item_id`).
        users: one row per user, likewise.
        columns: which column means what.
        rules: what happens to rows that can't be used.
        name: of the data set; default: `frames-` and a hash of the content.
        impressions: one row per shown item: `impression_id`, user, item, time and `label`.

    Raises:
        RecsysLabError: for something that is no frame.
    """

    licence = "your own data"
    homepage = citation = ""
    checked_by = "columns, ids and timestamps"
    urls = ()
    is_own = True

    def __init__(
        self,
        events: Any,
        items: Any = None,
        users: Any = None,
        columns: Columns = Columns(),  # noqa: B008  frozen
        rules: Rules = STRICT,
        name: str = "",
        impressions: Any = None,
    ) -> None:
        self.events = as_frame(events, "events")
        self.items = None if items is None else as_frame(items, "items")
        self.users = None if users is None else as_frame(users, "users")
        self.impressions = None if impressions is None else as_frame(impressions, "impressions")
        self.columns, self.rules = columns, rules
        self.content = self._content()
        self.name = name or f"frames-{self.content[:8]}"

    @property
    def has_timestamps(self) -> bool:
        return self.columns.timestamp is not None

    def reading(self) -> dict[str, Any]:
        options = {f"{name}_column": value for name, value in asdict(self.columns).items() if value is not None}
        options |= {name: value for name, value in asdict(self.rules).items() if value != "error"}
        return {"input": "frames in memory", **options}

    def tables(self, raw_dir: Path) -> RawTables:
        found, chosen = self._checked(self.events, self.columns, "events")
        schema = found.events.collect_schema()
        needs_time(self.rules, schema, f"the events of {self.name!r}")
        items = self._features(self.items, "items", ITEM_ID, chosen[ITEM_ID], schema)
        users = self._features(self.users, "users", USER_ID, chosen[USER_ID], schema)
        shown = None
        if self.impressions is not None:
            columns = self.columns.among(self.impressions.columns)
            shown = self._checked(self.impressions, columns, "impressions")[0].events
        return RawTables(found.events, items, users, found.left_out, found.binary, shown)

    def _checked(self, frame: pl.DataFrame, columns: Columns, what: str) -> tuple[Checked, dict[str, str]]:
        where = f"the {what} of {self.name!r}"
        chosen = columns.resolve(frame.columns, where)
        label = label_column(frame.columns, chosen)
        further = [name for name in frame.columns if name not in chosen.values()]
        wanted = chosen | ({} if label is None else {LABEL: label})
        return checked(frame.lazy(), wanted, where, self.rules, further=further), chosen

    def _features(
        self, frame: pl.DataFrame | None, what: str, canonical: str, named: str, schema: pl.Schema
    ) -> pl.LazyFrame | None:
        if frame is None:
            return None
        key = named if named in frame.columns else canonical
        if key not in frame.columns:
            raise RecsysLabError(f"the {what} of {self.name!r} have no column {named!r}; {', '.join(frame.columns)}")
        ids = pl.col(key).cast(schema[canonical], strict=False)
        return frame.lazy().with_columns(ids).rename({key: canonical}).drop_nulls(canonical)

    def fingerprint(self, raw_dir: Path) -> str:
        return self.content

    def _content(self) -> str:
        digest = hashlib.sha256(json.dumps(self.reading(), sort_keys=True).encode())
        frames = [self.events, self.items, self.users]
        for frame in frames if self.impressions is None else [*frames, self.impressions]:
            digest.update(b"none" if frame is None else repr(frame.schema).encode())
            for part in [] if frame is None else frame.iter_slices(HASHED_AT_ONCE):
                digest.update(part.rechunk().write_ipc(None, compression="uncompressed").getbuffer())
        return digest.hexdigest()


def as_frame(frame: Any, what: str) -> pl.DataFrame:
    """A polars frame of what the user has.

    Raises:
        RecsysLabError: for something that is no frame, or whose columns can't be.
    """
    found = _polars(frame, what)
    objects = next((name for name, dtype in found.schema.items() if dtype == pl.Object), None)
    if objects is not None:
        raise RecsysLabError(f"column {objects!r} of the {what} holds Python objects; make it text or numbers")
    return found


def _polars(frame: Any, what: str) -> pl.DataFrame:
    try:
        if isinstance(frame, pl.DataFrame):
            return frame
        if isinstance(frame, pl.LazyFrame):
            return frame.collect(engine="streaming")
        if isinstance(frame, dict):
            return pl.DataFrame(frame)
        if type(frame).__module__.partition(".")[0] == "pandas" and hasattr(frame, "columns"):
            return pl.DataFrame([_of_pandas(frame[name], str(name)) for name in _once(frame.columns, what)])
    except (pl.exceptions.PolarsError, TypeError, ValueError, OverflowError) as error:
        raise RecsysLabError(f"the {what} can't be read as a frame: {str(error).splitlines()[0]}") from error
    raise RecsysLabError(
        f"{what} is a {type(frame).__module__}.{type(frame).__qualname__}; give a polars or pandas DataFrame, or "
        "FileSource(path) for a file"
    )


def _once(columns: Any, what: str) -> list[Any]:
    names = list(columns)
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise RecsysLabError(f"the {what} have two columns named {twice!r}; rename one")
    return names


def _of_pandas(column: Any, name: str) -> pl.Series:
    """A pandas column without pyarrow; missing values of every kind become null."""
    kind = getattr(column.dtype, "kind", "O")
    if getattr(column.dtype, "tz", None) is not None:
        column = column.dt.tz_convert("UTC").dt.tz_localize(None)
        kind = "M"
    missing = column.isna().to_numpy()
    if kind == "M":
        values = column.to_numpy(dtype="datetime64[us]")
        return pl.Series(name, values).set(pl.Series(missing), None)
    if kind in "iub" and not missing.any():
        return pl.Series(name, column.to_numpy())
    if kind == "f" and type(column.dtype).__module__.startswith("numpy"):
        return pl.Series(name, column.to_numpy())  # NaN stays NaN: a missing id or time either way
    plain = [None if gone else value for value, gone in zip(column.tolist(), missing, strict=True)]
    return pl.Series(name, plain, strict=True)
