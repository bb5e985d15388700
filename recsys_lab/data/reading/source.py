"""What every data source is, and the shape that most public ones share: some files, a parser, a check."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from recsys_lab.data.reading.digests import Digests
from recsys_lab.data.reading.download import DownloadError, download
from recsys_lab.data.reading.raw_files import (
    Counts,
    PublicFile,
    check_counts,
    combined_digest,
    extract,
    find_local,
    verify,
)
from recsys_lab.data.reading.table_checks import BinaryColumn
from recsys_lab.words import RecsysLabError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Before:
    """What is known of tables whose first rows were prepared before: see `prepare.append`. The filters of single events
    have been applied to all rows.

    Attributes:
        fields: what `--fields` said, or would have to say.
        event_types: names of event types, also of such that no event is left of.
        gone: name of a step of `prepare` -> how many events it left that a later step has dropped already.
        manifest: entries of the manifest.
    """

    fields: tuple[str, ...]
    event_types: tuple[str, ...]
    gone: Mapping[str, int]
    manifest: Mapping[str, Any]


@dataclass(frozen=True)
class RawTables:
    """The tables of a source, checked and with canonical column names, still lazy.

    `interactions` has `user_id`, `item_id` (Int64 where every id is a whole number, else String), `order` (the row in
    the file, or the named order column) and, where the source has them, `timestamp` (unix seconds: Int64, or Float64
    where it has fractions), `event_type` (String), `rating` (Float64).
    `items` and `users` have `item_id`/`user_id` of the same type. `shown` has a row per shown item: `impression_id`,
    `user_id`, `item_id`, `label` (a number) and, where there is one, `timestamp`. All four may have any other columns.
    `binary`: a label or rating of 0 and 1, if there is one: its rows of 0 may be no events.
    `left_out`: kind of row -> how many rows of the source are not in `interactions`.
    """

    interactions: pl.LazyFrame
    items: pl.LazyFrame | None = None
    users: pl.LazyFrame | None = None
    left_out: Mapping[str, int] = field(default_factory=dict)
    binary: BinaryColumn | None = None
    shown: pl.LazyFrame | None = None
    before: Before | None = None

    def __post_init__(self) -> None:
        for name in ("interactions", "items", "users", "shown"):
            if isinstance(table := getattr(self, name), pl.DataFrame):  # what a parser of the user's own may well give
                object.__setattr__(self, name, table.lazy())


class Source(ABC):
    """Where raw interactions come from."""

    name: str
    licence: str  # one line, for people
    homepage: str
    citation: str

    @property
    @abstractmethod
    def urls(self) -> tuple[str, ...]:
        """Where the files are fetched from; empty if they can't be fetched by a program."""

    @property
    @abstractmethod
    def checked_by(self) -> str:
        """How the files are known to be the right ones, in words."""

    @property
    @abstractmethod
    def has_timestamps(self) -> bool: ...

    @property
    def default_settings(self) -> dict[str, Any]:
        """Arguments of `PrepareSettings` that this set is usually prepared with."""
        return {}

    @property
    def is_own(self) -> bool:
        """Whether this is the user's own data, under a name that the user chose."""
        return False

    def reading(self) -> dict[str, Any]:
        """How the raw files are read, as far as the user chose it: plain values without secrets, for the manifest."""
        return {}

    def best_scores(self) -> dict[str, Any]:
        """What the best model can expect, where that is known; else nothing. For the manifest of the prepared set.

        `num_events`: of the whole set, since fewer events are another question. `exclude_seen`: the setting of
        `--data.exclude_seen` that it holds for. `test`, `val`: metric@k -> value, of the targets of leave-one-out, and
        `<metric>@k_error`, how far chance moves what the best model scores.
        """
        return {}

    @abstractmethod
    def tables(self, raw_dir: Path) -> RawTables:
        """The tables; fetches what is missing into `raw_dir/<name>/`, or uses the user's file put there.

        Raises:
            DownloadError: when a file is missing and can't be fetched; says what was tried and where to put it.
            RecsysLabError: when a file is not what it should be.
        """

    @abstractmethod
    def fingerprint(self, raw_dir: Path) -> str:
        """sha256 (hex) over the raw files that `tables` reads: another value means other data."""


@dataclass(frozen=True)
class PublicSource(Source):
    """A public data set: which files, where from, how they are checked, how they are read.

    Attributes:
        files: what `parse` reads, looked for in `raw_dir/<name>/` first (text files also gzipped or unpacked).
        archive: the zip that `files` come in, if any; fetched when one of them is missing.
        parse: the files found, by name -> canonical tables.
        counts: published size. Always compared; the only check where a file has no checksum.
        instructions: for sets that need an account or a browser: what to do.
    """

    name: str
    licence: str
    homepage: str
    citation: str
    files: tuple[PublicFile, ...]
    parse: Callable[[Mapping[str, Path]], RawTables]
    archive: PublicFile | None = None
    counts: Counts | None = None
    has_timestamps: bool = True
    instructions: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def urls(self) -> tuple[str, ...]:
        return tuple(u for f in self._fetched() for u in f.urls)

    @property
    def default_settings(self) -> dict[str, Any]:
        return dict(self.settings)

    @property
    def checked_by(self) -> str:
        how = [f"{f.checksum.partition(':')[0]} of {f.name}" for f in (*self._fetched(), *self.files) if f.checksum]
        if self.counts is not None:
            how.append("published counts")
        return ", ".join(dict.fromkeys(how)) or "nothing: the publisher states neither checksum nor size"

    def tables(self, raw_dir: Path) -> RawTables:
        found = self.locate(raw_dir)
        tables: Any = self.parse(found)
        if not isinstance(tables, RawTables):
            raise RecsysLabError(f"the source {self.name!r}: parse gives {type(tables).__name__}, and not RawTables")
        if self.counts is not None:
            check_counts(tables.interactions, self.counts, self.name, next(iter(found.values())).parent)
        return tables

    def fingerprint(self, raw_dir: Path) -> str:
        return combined_digest(self.locate(raw_dir), Digests(raw_dir))

    def locate(self, raw_dir: Path) -> dict[str, Path]:
        """The files by published name, fetched and checked where needed."""
        folder, digests = raw_dir / self.name, Digests(raw_dir)
        found = {f.name: path for f in self.files if (path := find_local(folder, f.name)) is not None}
        missing = [f for f in self.files if f.name not in found]
        if any(not f.optional for f in missing) or (missing and self._archive_at(folder) is not None):
            found |= self._fetch(folder, missing, digests)
        for file in self.files:
            if file.checksum and file.name in found:
                verify(found[file.name], file.name, file.checksum, digests)
        return found

    def _archive_at(self, folder: Path) -> Path | None:
        return find_local(folder, self.archive.name) if self.archive else None

    def _fetched(self) -> tuple[PublicFile, ...]:
        return self.files if self.archive is None else (self.archive,)

    def _fetch(self, folder: Path, missing: list[PublicFile], digests: Digests) -> dict[str, Path]:
        if self.archive is None:
            wanted = [f for f in missing if f.urls]
            if not wanted:
                raise DownloadError(self._by_hand(folder, missing))
            log.info("%s: %s", self.name, self.licence)
            return {f.name: download(f.urls, folder / f.name, f.checksum) for f in wanted}
        archive = self._archive_at(folder)
        if archive is None:
            log.info("%s: %s", self.name, self.licence)
            archive = download(self.archive.urls, folder / self.archive.name, self.archive.checksum)
        elif self.archive.checksum:
            verify(archive, self.archive.name, self.archive.checksum, digests)
        return extract(archive, folder, missing)

    def _by_hand(self, folder: Path, missing: list[PublicFile]) -> str:
        names = " and ".join(f.name for f in missing if not f.optional)
        return (
            f"{self.name} can't be downloaded by a program. {self.instructions}\n"
            f"Then put {names} (gzipped or not) into {folder.resolve()} and run the same command again"
        )
