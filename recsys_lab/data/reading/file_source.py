"""The generic reader: a user's own file as a source."""

from __future__ import annotations

import codecs
import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import polars as pl

from recsys_lab.data.reading import copies
from recsys_lab.data.reading.addresses import fetch_remote, file_name, is_remote, shown
from recsys_lab.data.reading.columns import LABEL, Columns, column_option, label_column
from recsys_lab.data.reading.digests import Digests
from recsys_lab.data.reading.feature_tables import read_table, unreadable
from recsys_lab.data.reading.formats import Format, Table, format_of, matched, open_table, with_constants
from recsys_lab.data.reading.parts import Part, Piece, find_parts, pieces_of
from recsys_lab.data.reading.source import RawTables, Source
from recsys_lab.data.reading.spelling import option
from recsys_lab.data.reading.table_checks import STRICT, Checked, Rules, checked, needs_time
from recsys_lab.words import ITEM_ID, USER_ID, RecsysLabError


def read_interactions(
    paths: list[Path],
    format: str,
    columns: Columns,
    separator: str | None = None,
    names: tuple[str, ...] = (),
    further: bool = True,
) -> pl.LazyFrame:
    """Files of one table -> checked canonical interactions (see `RawTables`), lazy.

    Args:
        further: whether columns without a meaning of ours are read, too.

    Raises:
        RecsysLabError: for everything that is wrong with the file, naming it and the fix.
    """
    return read_parts([Part(path) for path in paths], format, columns, separator, names, further=further).events


def read_parts(
    parts: Sequence[Part],
    format: str,
    columns: Columns,
    separator: str | None = None,
    names: tuple[str, ...] = (),
    rules: Rules = STRICT,
    further: bool = True,
    first: str = "",
    piece: Piece | None = None,
) -> Checked:
    """As `read_interactions`, with the columns that folders name, and rows left out by `rules`; `first` is the user's
    name of the first file, `piece` which rows are wanted (see `asks`)."""
    paths = [part.path for part in parts]
    where = (first or str(paths[0])) + ("" if len(paths) == 1 else f" and {len(paths) - 1} more")
    try:
        if any(part.partition for part in parts):
            table = _with_partitions(parts, format, separator, names)
        else:
            table = open_table(paths, format, separator, names)
        chosen = columns.resolve(table.columns, where)
        twins = table.twins(list(chosen.values()))
        if twins:
            raise RecsysLabError(
                f"{where} has two columns named {twins[0]!r}: which is meant can't be known; rename one in the file"
            )
        label = label_column(table.columns, chosen)
        if label is not None and not table.twins([label]):
            chosen[LABEL] = label
        more = table.further(columns.resolve(table.columns, where).values(), where) if further else []
        wanted = list(dict.fromkeys([*chosen.values(), *more]))
        scanned, whole = table.scan(wanted), table.whole
        if piece is not None:
            part = parts[piece.file]
            own = with_constants(open_table([part.path], format, separator, names), part.partition)
            scanned = piece.of(own.scan(wanted), scanned.collect_schema())
            if whole is not None and own.whole is not None:
                whole = piece.of(own.whole.select(whole.collect_schema().names()), whole.collect_schema())
        return checked(scanned, chosen, where, rules, whole, more)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise unreadable(paths, format, separator, names, error) from error


def _with_partitions(parts: Sequence[Part], format: str, separator: str | None, names: tuple[str, ...]) -> Table:
    full = [part for part in parts if part.path.stat().st_size > 0] or list(parts)[:1]
    tables = [with_constants(open_table([p.path], format, separator, names), p.partition) for p in full]
    return matched(tables, [part.path for part in full])


@dataclass(frozen=True)
class FileSource(Source):
    """Interactions in the user's own file or files.

    Args:
        path: a local file, a folder (folders in it are read too; `date=2020-09-13` names a column) or glob of files of
            one format, or any address that fsspec knows (`https://`, `s3://`, `memory://`, ...), which is copied into
            the raw folder first. Columns of several files are matched by name.
        columns: which column means what. Not used for `pairs` and `sequences`, which have only users and items.
        items: a file with one row per item.
        format: `csv`, `tsv`, `jsonl` (JSON lines, or an array of objects), `parquet`, `inter` (RecBole: tab-separated,
            header `user_id:token`), `pairs` (SASRec: `user item` per line) or `sequences` (S3Rec: `user item item ...`
            per line); the last two in the order of time. None = by the file name. All but parquet may be packed with
            gzip, bz2, xz, zstd or zip.
        separator: of csv or tsv fields, if not comma or tab; may be several characters (MovieLens: `::`).
        names: the columns of a csv or tsv file without a header line.
        name: of the data set; default: the file name without its endings.
        encoding: of text files, by its Python name (`latin-1`, `utf-16`, `cp1252`); default UTF-8.
        items_column: the column with the item id in `items`; default: named as `columns.item`.
        users: a file with one row per user.
        impressions: a file with one row per shown item: `impression_id`, user, item, time and `label`, named as in
            the log or by our names.
        users_column: the column with the user id in `users`; default: named as `columns.user`.
        missing_ids: rows without a user or an item: `error` or `drop` (see `Rules`).
        bad_times: rows without a usable time: `error` or `drop`.
    """

    path: str | Path
    columns: Columns = Columns()
    items: str | Path | None = None
    format: Format | None = None
    separator: str | None = None
    names: tuple[str, ...] = ()
    name: str = ""
    encoding: str | None = None
    items_column: str | None = None
    missing_ids: Literal["error", "drop"] = "error"
    bad_times: Literal["error", "drop"] = "error"
    users: str | Path | None = None
    users_column: str | None = None
    impressions: str | Path | None = None

    licence = "your own data"
    homepage = ""
    citation = ""

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", _name_of(self.path))
        object.__setattr__(self, "names", tuple(self.names))  # a list, if it comes from YAML
        Rules(self.missing_ids, self.bad_times)
        if self.encoding is not None:
            try:
                codecs.lookup(self.encoding)
            except (LookupError, ValueError):
                raise RecsysLabError(
                    f"unknown {option('encoding')} {self.encoding!r}; known: utf-8, utf-16, latin-1, cp1252, gb18030, "
                    "shift_jis and the others of Python"
                ) from None

    @property
    def urls(self) -> tuple[str, ...]:
        return (str(self.path),) if is_remote(self.path) else ()

    @property
    def checked_by(self) -> str:
        return "columns, ids and timestamps"

    @property
    def has_timestamps(self) -> bool:
        """Whether a time column is named. A file may also have one that is called `timestamp`: `tables` shows."""
        return self.columns.timestamp is not None

    @property
    def is_own(self) -> bool:
        return True

    def reading(self) -> dict[str, Any]:
        """Only what was chosen; addresses without their secrets."""
        options = {f"{name}_column": value for name, value in asdict(self.columns).items()}
        options |= {n: getattr(self, n) for n in ("format", "separator", "encoding", "items_column", "users_column")}
        options["names"] = ",".join(self.names) or None
        options |= {n: None if getattr(self, n) == "error" else "drop" for n in ("missing_ids", "bad_times")}
        files = {"input": self.path, "items": self.items, "users": self.users, "impressions": self.impressions}
        options |= {name: None if path is None else shown(path) for name, path in files.items()}
        return {name: value for name, value in sorted(options.items()) if value is not None}

    def log(self, raw_dir: Path, piece: Piece | None = None) -> Checked:
        """The log alone, or a piece of it (see `asks`)."""
        with _said_of_originals() as plain:
            return self._log(raw_dir, plain, piece)

    def _log(self, raw_dir: Path, plain: dict[str, str], piece: Piece | None = None) -> Checked:
        if idle := self.idle():
            raise RecsysLabError(next(iter(idle.values())))
        rules, format = Rules(self.missing_ids, self.bad_times), self._format()
        parts = self._plain(self.path, format, raw_dir, plain)
        first = plain.get(str(parts[0].path), "")
        found = read_parts(parts, format, self.columns, self.separator, self.names, rules, first=first, piece=piece)
        needs_time(rules, found.events.collect_schema(), first or str(parts[0].path))
        return found

    def pieces(self, raw_dir: Path) -> list[Piece]:
        """What tasks may read of the log."""
        with _said_of_originals() as plain:
            return pieces_of(self._plain(self.path, self._format(), raw_dir, plain), self._format())

    def files(self, raw_dir: Path) -> list[Path]:
        """Of the log and of all further tables."""
        paths = [path for path in (self.path, self.items, self.users, self.impressions) if path is not None]
        return [part.path for path in paths for part in self._local(path, raw_dir)]

    def tables(self, raw_dir: Path) -> RawTables:
        rules = Rules(self.missing_ids, self.bad_times)
        with _said_of_originals() as plain:
            found = self._log(raw_dir, plain)
            schema = found.events.collect_schema()
            items = self._table(self.items, self.items_column or self.columns.item, ITEM_ID, schema, raw_dir, plain)
            users = self._table(self.users, self.users_column or self.columns.user, USER_ID, schema, raw_dir, plain)
            shown = self._impressions(raw_dir, rules, plain)
            return RawTables(found.events, items, users, found.left_out, found.binary, shown)

    def _table(
        self,
        path: str | Path | None,
        key: str | None,
        canonical: str,
        schema: pl.Schema,
        raw_dir: Path,
        plain: dict[str, str],
    ) -> pl.LazyFrame | None:
        if path is None:
            return None
        format = _format_by_name(path)
        parts = self._plain(path, format, raw_dir, plain)
        return read_table([part.path for part in parts], key or canonical, schema[canonical], canonical, format)

    def _impressions(self, raw_dir: Path, rules: Rules, plain: dict[str, str]) -> pl.LazyFrame | None:
        if self.impressions is None:
            return None
        format = _format_by_name(self.impressions)
        parts = self._plain(self.impressions, format, raw_dir, plain)
        found = open_table([part.path for part in parts], format).columns
        columns = self.columns.among([*found, *(name for part in parts for name in part.partition)])
        return read_parts(parts, format, columns, rules=rules).events

    def _format(self) -> str:
        return self.format or format_of(_first_name(self.path))

    def idle(self) -> dict[str, str]:
        """Options that change nothing, by name, each with a sentence that says why."""
        format = self._format()
        tables = [path for path in (self.items, self.users, self.impressions) if path is not None]
        formats = {format, *map(_format_by_name, tables)}
        found = {}
        for what in ("item", "user"):
            name, table = f"{what}s_column", f"{what}s"
            if getattr(self, name) is not None and getattr(self, table) is None:
                found[name] = (
                    f"{option(name)} names a column of the file of {option(table)}, which is not given; the column of "
                    f"the log is named with {column_option(what)}"
                )
        if self.separator is not None and format not in ("csv", "tsv", "pairs"):
            found["separator"] = f"{option('separator')} is for csv, tsv and pairs; a {format} file has none to choose"
        if self.names and format not in ("csv", "tsv"):
            found["names"] = f"{option('names')} is for csv and tsv without a header line, not for {format}"
        if self.encoding is not None and formats == {"parquet"}:
            found["encoding"] = f"{option('encoding')} is for text files; a Parquet file says it itself"
        return found

    def _plain(self, path: str | Path, format: str, raw_dir: Path, plain: dict[str, str]) -> list[Part]:
        """The files of `path`, with plain copies of those that can't be scanned as they are (noted in `plain`)."""
        parts = []
        for part in self._local(path, raw_dir):
            if part.path.stat().st_size == 0:
                parts.append(part)
                continue
            copy = copies.readable(part.path, format, self.encoding, raw_dir / self.name)
            if copy != part.path:
                plain[str(copy)] = str(part.path)
            parts.append(Part(copy, part.partition))
        return parts

    def fingerprint(self, raw_dir: Path) -> str:
        # the mapping counts as data: another time column makes another set
        meaning = [asdict(self.columns), self.format, self.separator, self.names]
        newer = {name: self.reading()[name] for name in NEWER if name in self.reading()}
        tables = [name for name in ("users", "impressions") if getattr(self, name) is not None]
        newer |= {"tables": tables} if tables else {}
        meaning += [newer] if newer else []  # only where they are used: sets made before keep their fingerprint
        lines = [json.dumps(meaning, sort_keys=True), *map(Digests(raw_dir).of, self.files(raw_dir))]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def _local(self, path: str | Path, raw_dir: Path) -> list[Part]:
        if is_remote(path):
            return [Part(fetch_remote(str(path), raw_dir / self.name))]
        return find_parts(path)


@contextmanager
def _said_of_originals() -> Iterator[dict[str, str]]:
    """Errors name the originals of copies, which are noted here: the user knows them, and not our copies."""
    plain: dict[str, str] = {}
    try:
        yield plain
    except RecsysLabError as error:
        text = str(error)
        for copy, original in plain.items():
            text = text.replace(copy, original)
        raise RecsysLabError(text) from error


def _first_name(path: str | Path) -> str:
    return file_name(path) if is_remote(path) else str(find_parts(path)[0].path)


def _format_by_name(path: str | Path) -> str:
    """The format of a further table."""
    name = _first_name(path)
    try:
        return format_of(name)
    except RecsysLabError:
        raise RecsysLabError(
            f"the name of {name} does not tell its format; give it an ending such as .csv, .tsv, .jsonl or .parquet"
        ) from None


NEWER = ("encoding", "items_column", "missing_ids", "bad_times", "users_column")
"""Options of `FileSource` that its fingerprint knows only where they are given."""


def _name_of(path: str | Path) -> str:
    """The file's name without its endings; where that is all wild (`logs/*/*.csv`), the folder's."""
    names = [file_name(path)] if is_remote(path) else reversed(Path(str(path).removeprefix("file://")).parts)
    return next((plain for name in names if (plain := name.split(".")[0].strip("*?[]/ "))), "files")
