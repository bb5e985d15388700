"""A source made of a small frame, for the tests of `prepare`."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import polars as pl

from recsys_lab.data.reading.source import RawTables, Source


class MadeSource(Source):
    """Reads nothing; its fingerprint is of the frames. `reads` counts how often the tables were asked for."""

    licence = "made for tests"
    homepage = citation = checked_by = ""
    urls = ()
    has_timestamps = True

    def __init__(
        self,
        interactions: pl.DataFrame | dict[str, Any],
        items: pl.DataFrame | None = None,
        users: pl.DataFrame | None = None,
        name: str = "made",
    ) -> None:
        self.name = name
        self.frame = pl.DataFrame(interactions)
        if "order" not in self.frame.columns:
            self.frame = self.frame.with_row_index("order")
        self.items, self.users = items, users
        self.reads = 0

    def tables(self, raw_dir: Path) -> RawTables:
        self.reads += 1
        lazy = [None if frame is None else frame.lazy() for frame in (self.items, self.users)]
        return RawTables(self.frame.lazy(), *lazy)

    def fingerprint(self, raw_dir: Path) -> str:
        frames = (self.frame, self.items, self.users)
        return hashlib.sha256("".join("" if f is None else f.write_ndjson() for f in frames).encode()).hexdigest()
