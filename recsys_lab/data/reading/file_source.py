"""The generic reader: a user's own file as a source."""

from __future__ import annotations

import codecs
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import polars as pl

from recsys_lab.data.reading import copies
from recsys_lab.data.reading.addresses import fetch_remote, file_name, is_remote, shown
from recsys_lab.data.reading.columns import LABEL, Columns, label_column
from recsys_lab.data.reading.digests import Digests
from recsys_lab.data.reading.faults import explain
from recsys_lab.data.reading.formats import Format, Table, format_of, matched, open_table, with_constants
from recsys_lab.data.reading.parts import Part, find_parts
from recsys_lab.data.reading.source import RawTables, Source
from recsys_lab.data.reading.spelling import option
from recsys_lab.data.reading.table_checks import STRICT, Checked, Rules, checked
from recsys_lab.words import ITEM_ID, RecsysLabError


def read_interactions(
    paths: list[Path], format: str, columns: Columns, separator: str | None = None, names: tuple[str, ...] = ()
) -> pl.LazyFrame:
    """Files of one table -> checked canonical interactions (see `RawTables`), lazy.

    Raises:
        RecsysLabError: for everything that is wrong with the file, naming it and the fix.
    """
    return read_parts([Part(path) for path in paths], format, columns, separator, names).events


def read_parts(
    parts: Sequence[Part],
    format: str,
    columns: Columns,
    separator: str | None = None,
    names: tuple[str, ...] = (),
    rules: Rules = STRICT,
) -> Checked:
    """As `read_interactions`, with the columns that folders name, and rows left out by `rules`."""
    paths = [part.path for part in parts]
    where = str(paths[0]) if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"
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
        return checked(table.scan(list(chosen.values())), chosen, where, rules, table.whole)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise _unreadable(paths, format, separator, names, error) from error


def _with_partitions(parts: Sequence[Part], format: str, separator: str | None, names: tuple[str, ...]) -> Table:
    full = [part for part in parts if part.path.stat().st_size > 0] or list(parts)[:1]
    tables = [with_constants(open_table([p.path], format, separator, names), p.partition) for p in full]
    return matched(tables, [part.path for part in full])


def read_items(paths: list[Path], key: str, dtype: pl.DataType) -> pl.LazyFrame:
    """An item table with its id column `key` as `item_id` of the type that the interactions have.

    Raises:
        RecsysLabError: when there is no such column, listing those found.
    """
    where, format = str(paths[0]), format_of(str(paths[0]))
    try:
        opened = open_table(paths, format)
        found = opened.columns
        if key not in found:
            raise RecsysLabError(
                f"{where} has no column {key!r} with the item id; it has: {', '.join(found)}. Name the right one with "
                f"{option('items_column')}"
            )
        if opened.twins([key]):
            raise RecsysLabError(f"{where} has two columns named {key!r}; rename one in the file")
        if format == "parquet":
            table = pl.scan_parquet(paths, glob=False)
        elif format == "jsonl":
            table = pl.scan_ndjson(paths, schema_overrides={key: pl.String})
        else:
            separator = "," if format == "csv" else "\t"
            header = pl.scan_csv(paths, separator=separator, infer_schema=False, glob=False).collect_schema().names()
            plain = {name: name.partition(":")[0] if format == "inter" else name for name in header}
            text = {name: pl.String for name in header if plain[name] == key}  # "007" is not 7
            table = pl.scan_csv(
                paths, separator=separator, schema_overrides=text, infer_schema_length=10_000, glob=False
            )
            table = table.rename(plain)
        if key != ITEM_ID and ITEM_ID in found:
            table = table.drop(ITEM_ID)  # another thing by that name: the id is what the user named
        # an id that isn't of the interactions' type can't be in them: its row is of no use
        items = table.rename({key: ITEM_ID}).with_columns(pl.col(ITEM_ID).cast(dtype, strict=False))
        items.select(pl.all().null_count()).collect(engine="streaming")  # read once: a fault is better told here
        return items.drop_nulls(ITEM_ID)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise _unreadable(paths, format, None, (), error) from error


def _unreadable(
    paths: list[Path], format: str, separator: str | None, names: tuple[str, ...], error: BaseException
) -> RecsysLabError:
    why = explain(paths, format, separator, names)
    first = (str(error).splitlines() or [type(error).__name__])[0]
    return RecsysLabError(why or f"{paths[0]} can't be read as {format}: {first}")


@dataclass(frozen=True)
class FileSource(Source):
    """Interactions in the user's own file or files.

    Args:
        path: a local file, a folder (folders in it are read too; `date=2020-09-13` names a column) or glob of files of
            one format, or any address that fsspec knows (`https://`, `s3://`, `memory://`, ...), which is copied into
            the raw folder first. Columns of several files are matched by name.
        columns: which column means what. Not used for `pairs` and `sequences`, which have only users and items.
        items: a file with one row per item, for features.
        format: `csv`, `tsv`, `jsonl` (JSON lines, or an array of objects), `parquet`, `inter` (RecBole: tab-separated,
            header `user_id:token`), `pairs` (SASRec: `user item` per line) or `sequences` (S3Rec: `user item item ...`
            per line); the last two in the order of time. None = by the file name. All but parquet may be packed with
            gzip, bz2, xz, zstd or zip.
        separator: of csv or tsv fields, if not comma or tab; may be several characters (MovieLens: `::`).
        names: the columns of a csv or tsv file without a header line.
        name: of the data set; default: the file name without its endings.
        encoding: of text files, by its Python name (`latin-1`, `utf-16`, `cp1252`); default UTF-8.
        items_column: the column with the item id in `items`; default: named as `columns.item`.
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
        options |= {n: getattr(self, n) for n in ("format", "separator", "encoding", "items_column")}
        options["names"] = ",".join(self.names) or None
        options |= {n: None if getattr(self, n) == "error" else "drop" for n in ("missing_ids", "bad_times")}
        options |= {"input": shown(self.path), "items": None if self.items is None else shown(self.items)}
        return {name: value for name, value in sorted(options.items()) if value is not None}

    def tables(self, raw_dir: Path) -> RawTables:
        format = self.format or format_of(self._first_name())
        rules = Rules(self.missing_ids, self.bad_times)
        plain: dict[str, str] = {}
        try:
            parts = self._plain(self.path, format, raw_dir, plain)
            found = read_parts(parts, format, self.columns, self.separator, self.names, rules)
            if self.items is None:
                return RawTables(found.events, left_out=found.left_out, binary=found.binary)
            key = self.items_column or self.columns.item or ITEM_ID
            dtype = found.events.collect_schema()[ITEM_ID]
            item_format = format_of(file_name(self.items))
            items = [part.path for part in self._plain(self.items, item_format, raw_dir, plain)]
            return RawTables(found.events, read_items(items, key, dtype), left_out=found.left_out, binary=found.binary)
        except RecsysLabError as error:
            text = str(error)
            for copy, original in plain.items():  # the user knows the original, not our copy of it
                text = text.replace(copy, original)
            raise RecsysLabError(text) from error

    def _first_name(self) -> str:
        return file_name(self.path) if is_remote(self.path) else str(find_parts(self.path)[0].path)

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
        paths = [part.path for part in self._local(self.path, raw_dir)]
        if self.items is not None:
            paths = [*paths, *(part.path for part in self._local(self.items, raw_dir))]
        # the mapping counts as data: another time column makes another set
        meaning = [asdict(self.columns), self.format, self.separator, self.names]
        newer = {name: self.reading()[name] for name in NEWER if name in self.reading()}
        meaning += [newer] if newer else []  # only where they are used: sets made before keep their fingerprint
        lines = [json.dumps(meaning, sort_keys=True), *map(Digests(raw_dir).of, paths)]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def _local(self, path: str | Path, raw_dir: Path) -> list[Part]:
        if is_remote(path):
            return [Part(fetch_remote(str(path), raw_dir / self.name))]
        return find_parts(path)


NEWER = ("encoding", "items_column", "missing_ids", "bad_times")
"""Options of `FileSource` that its fingerprint knows only where they are given."""


def _name_of(path: str | Path) -> str:
    """The file's name without its endings; where that is all wild (`logs/*/*.csv`), the folder's."""
    names = [file_name(path)] if is_remote(path) else reversed(Path(str(path).removeprefix("file://")).parts)
    return next((plain for name in names if (plain := name.split(".")[0].strip("*?[]/ "))), "files")
