"""Coded columns -> the files of stored fields."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

import numpy as np
import polars as pl

from recsys_lab.data.fields.coding import Coding, code_counts, dense, values_digest
from recsys_lab.data.fields.kinds import Column
from recsys_lab.data.fields.stored import StoredField, hash_of

Rows = Any
"""Rows of one column: (n,) codes, (n,) or (n, width) float32 with NaN where it is missing, or a Series of text or lists
of codes."""
Parts = Callable[[], Iterator[Rows]]
"""All rows of a column, some at a time, as often as it is called."""


class Writer(Protocol):
    """What writes the files: `prepare.store.FolderWriter`."""

    arrays: dict[str, dict[str, Any]]

    def array(
        self, name: str, dtype: str, parts: Iterable[np.ndarray], length: int, width: int | None = None
    ) -> None: ...

    def table(self, name: str, frame: pl.DataFrame) -> None: ...

    def table_of_parts(self, name: str, parts: Iterable[pl.DataFrame]) -> None: ...


class FieldWriter:
    """Writes one field; its facts are those of what was written.

    Args:
        writer: of the prepared folder.
        column: the field.
        coding: its values, where it is categorical or multi. Those that don't occur are left out.
        file: see `StoredField.file`.
        conflicts: see `StoredField.conflicts`.
    """

    def __init__(
        self, writer: Writer, column: Column, coding: Coding | None, file: str, conflicts: int | None = None
    ) -> None:
        self.writer, self.column, self.coding = writer, column, coding
        self.facts: dict[str, Any] = {"name": column.name, "scope": column.scope, "kind": column.kind}
        self.facts |= {"known_at": column.wish.known_at, "file": file}
        self.facts |= {"from_events": conflicts is not None, "conflicts": conflicts or 0}
        self.new_codes: np.ndarray | None = None

    def write(
        self, parts: Parts, rows: int, of_events: Parts | None = None, num_events: int = 0, keep_all: bool = False
    ) -> StoredField:
        """Writes the field.

        Args:
            parts: its rows.
            rows: how many there are.
            of_events: of an item or user field that comes from events the rows of all events.
            num_events: how many they are.
            keep_all: codes stay as they are, also of values that don't occur.
        """
        field = StoredField(**self.facts)
        if self.column.kind == "text":
            self._text(field, parts)
            return StoredField(**self.facts)
        digests = [] if self.coding is None else [self._values(field, of_events or parts, keep_all)]
        if of_events is not None:
            digests += self._array(field.event_array, of_events, num_events)
        digests += self._array(field.array, parts, rows)
        return StoredField(**self.facts, hash=hash_of(self.column.kind, *digests))

    def _values(self, field: StoredField, parts: Parts, keep_all: bool) -> str:
        """Writes the values that occur, and returns their digest."""
        assert self.coding is not None
        counts = code_counts((_flat(part) for part in parts()), len(self.coding.values))
        if keep_all:
            counts[1:] = 1
        self.new_codes = dense(counts)
        values = self.coding.values.filter(pl.Series(counts[1:] > 0))
        self.facts["num_values"] = len(values)
        self.writer.table(field.table, values.alias("value").to_frame())
        return values_digest([values])

    def _array(self, name: str, parts: Parts, rows: int) -> list[str]:
        """Writes an array (and its offsets), counts missing rows, and returns the sha256 of each."""
        kind, new, missing = self.column.kind, self.new_codes, 0
        if kind == "multi":
            return self._lists(name, parts, rows)
        width = self.column.width if kind == "vector" else None

        def values() -> Iterator[np.ndarray]:
            nonlocal missing
            for part in parts():
                found = part if new is None else new[part]
                gone = found == 0 if new is not None else np.isnan(found if width is None else found[:, 0])
                missing += int(np.count_nonzero(gone))
                yield found

        self.writer.array(name, "float32" if new is None else new.dtype.name, values(), rows, width)
        self.facts |= {"width": width or 1, "missing": missing}
        return [self.writer.arrays[name]["sha256"]]

    def _lists(self, name: str, parts: Parts, rows: int) -> list[str]:
        assert self.new_codes is not None
        new, total, longest, missing = self.new_codes, 0, 1, 0

        def ends() -> Iterator[np.ndarray]:
            nonlocal total, longest, missing
            yield np.zeros(1, np.int64)
            for part in parts():
                lengths = part.list.len().fill_null(0).to_numpy().astype(np.int64)
                longest = max(longest, int(lengths.max(initial=0)))
                missing += int(np.count_nonzero(lengths == 0))
                yield total + np.cumsum(lengths)
                total += int(lengths.sum())

        self.writer.array(f"{name}.offsets", "int64", ends(), rows + 1)
        self.writer.array(name, new.dtype.name, (new[_flat(part)] for part in parts()), total)
        self.facts |= {"width": longest, "missing": missing}
        return [self.writer.arrays[f"{name}.offsets"]["sha256"], self.writer.arrays[name]["sha256"]]

    def _text(self, field: StoredField, parts: Parts) -> None:
        missing = 0

        def counted() -> Iterator[pl.Series]:
            nonlocal missing
            for part in parts():
                missing += part.null_count()
                yield part

        self.facts["hash"] = hash_of("text", values_digest(counted()))
        self.facts["missing"] = missing
        if field.has_text_file:
            self.writer.table_of_parts(field.table, (part.alias("value").to_frame() for part in parts()))


def in_rows(series: pl.Series, column: Column) -> Rows:
    """Physical values (see `Column.physical`, or codes) as rows."""
    if column.kind in ("multi", "text"):
        return series
    if column.kind == "categorical":
        return series.to_numpy()
    if column.kind == "numeric":
        return series.cast(pl.Float32).fill_null(float("nan")).to_numpy()
    rows = np.full((len(series), column.width), np.nan, dtype=np.float32)
    known = series.is_not_null().to_numpy()
    if known.any():
        rows[known] = series.drop_nulls().to_numpy()
    return rows


def _flat(rows: Rows) -> np.ndarray:
    """Codes one after the other, also of lists."""
    flat: np.ndarray = rows if isinstance(rows, np.ndarray) else rows.drop_nulls().explode().drop_nulls().to_numpy()
    return flat
