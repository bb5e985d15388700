"""File formats -> lazy tables. Text formats are read as text throughout: types are decided on the whole column."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import polars as pl

from recsys_lab.data.reading.copies import name_inside, packing_of
from recsys_lab.data.reading.faults import json_record, text_lines
from recsys_lab.data.reading.spelling import option
from recsys_lab.words import ITEM_ID, USER_ID, RecsysLabError, number_of

log = logging.getLogger(__name__)

Format = Literal["csv", "tsv", "jsonl", "parquet", "inter", "pairs", "sequences"]
FORMATS: tuple[str, ...] = get_args(Format)
SUFFIXES = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".inter": "inter",
    ".item": "inter",
    ".user": "inter",
}
PACKED = (".gz", ".gzip", ".bz2", ".xz", ".zip", ".zst")
JSON_SAMPLE = 1000  # lines of a JSON Lines file that are looked at for its keys
TWIN = re.compile(r"(.+)_duplicated_\d+$")  # how polars calls the second column of one name


@dataclass(frozen=True)
class Table:
    """A file that is not read yet: its column names, and how to scan chosen ones.

    Attributes:
        columns: Names, as in the file.
        scan: (wanted names) -> those columns.
        whole: All columns where an empty line comes as a row of nulls, else None.
        common: The columns that every file has.
    """

    columns: list[str]
    scan: Callable[[Sequence[str]], pl.LazyFrame]
    whole: pl.LazyFrame | None = None
    common: Sequence[str] | None = None

    def further(self, chosen: Iterable[str], where: str) -> list[str]:
        """The columns that are not chosen. Those that some file lacks, and twins, are left out, which is said."""
        chosen = set(chosen)
        common = self.columns if self.common is None else self.common
        found = [name for name in self.columns if name not in chosen and not TWIN.match(name)]
        twins = set(self.twins(found))
        for name in found:
            if name in twins or name not in common:
                why = "two columns have this name" if name in twins else "not every file has it"
                log.warning("%s: column %r is left out: %s", where, name, why)
        return [name for name in found if name in common and name not in twins]

    def twins(self, chosen: Sequence[str]) -> list[str]:
        """Those of the chosen names that two columns have."""
        found = {match[1] for name in self.columns if (match := TWIN.match(name))}
        return [name for name in chosen if name in found]


def bare_name(name: str) -> str:
    """A file name in lower case without the ending of a packed file."""
    name = name.lower()
    return next((name.removesuffix(ending) for ending in PACKED if name.endswith(ending)), name)


def format_of(path: str) -> str:
    """The format that a file name tells, or where it tells none, that of the one file in a zip archive.

    Raises:
        RecsysLabError: for a name that tells none, listing the formats.
    """
    suffix = Path(bare_name(path)).suffix
    if suffix not in SUFFIXES:  # Kaggle's archive.zip
        suffix = Path(bare_name(name_inside(Path(path)))).suffix
    if suffix not in SUFFIXES:
        raise RecsysLabError(
            f"the name of {path} does not tell its format; give {option('format')} one of {', '.join(FORMATS)}"
        )
    return SUFFIXES[suffix]


def open_table(paths: list[Path], format: str, separator: str | None = None, names: Sequence[str] = ()) -> Table:
    """The table in `paths` (several files are read one after the other; columns are matched by name).

    Args:
        paths: local files; gzip is recognised in all text formats. Empty ones are left out, where others are not.
        format: one of `FORMATS`.
        separator: between fields, for csv and tsv; may be longer than one character (MovieLens: `::`).
        names: names of the columns of a csv or tsv file without a header line.

    Raises:
        RecsysLabError: for an empty file, or one that is not of this format.
    """
    if format not in FORMATS:
        raise RecsysLabError(f"unknown format {format!r}; known: {', '.join(FORMATS)}")
    if separator == "" or (separator is not None and set(separator) & set('\r\n"')):
        raise RecsysLabError(f"{option('separator')} is {separator!r}; it must be one or more characters within a line")
    again = sorted({name for name in names if list(names).count(name) > 1})
    if again:
        raise RecsysLabError(f"{option('names')} has {again[0]!r} twice")
    full = [path for path in paths if has_content(path, format)]
    if not full:
        raise RecsysLabError(f"{paths[0]} is empty" if len(paths) == 1 else f"all {len(paths)} files are empty")
    if format == "parquet":
        return _parquet(full)
    if format == "jsonl":
        return _jsonl(full)
    if format == "sequences":
        return _of(_sequences(full))
    if format == "pairs":
        return _of(_pairs(full) if separator is None else _delimited(full, separator, (USER_ID, ITEM_ID), quote=None))
    mark = {"tsv": "\t", "inter": "\t"}.get(format, separator or ",") if separator is None else separator
    if format == "inter":
        mark, names = "\t", ()
    quote = '"' if format == "csv" or _is_quoted(_first_line(full[0]), mark) else None
    headers = [_first_line(path) for path in full] if len(full) > 1 and not names else []
    if len(set(headers)) > 1:
        return matched([_of(_named(_delimited([path], mark, (), quote), format)) for path in full], full)
    return _of(_named(_delimited(full, mark, names, quote), format))


def matched(tables: Sequence[Table], paths: Sequence[Path]) -> Table:
    """Several tables as one, their columns matched by name.

    Raises:
        RecsysLabError: when scanned, for a column that one of them has and another has not, naming both.
    """
    columns = list(dict.fromkeys(name for table in tables for name in table.columns))

    def scan(wanted: Sequence[str]) -> pl.LazyFrame:
        for table, path in zip(tables, paths, strict=True):
            absent = next((name for name in wanted if name not in table.columns), None)
            if absent is not None:
                other = next(p for t, p in zip(tables, paths, strict=True) if absent in t.columns)
                raise RecsysLabError(
                    f"{path} has no column {absent!r}, which {other.name} has; it has: "
                    f"{', '.join(map(repr, table.columns))}"
                )
        return pl.concat([table.scan(wanted) for table in tables], how="vertical_relaxed")

    common = [name for name in columns if all(name in table.columns for table in tables)]
    whole = all(table.whole is not None for table in tables)
    return Table(columns, scan, scan(common) if whole and common else None, common)


def with_constants(table: Table, constants: dict[str, str | None]) -> Table:
    """The table with columns of one value each (what its folder says) behind its own."""
    added = {name: pl.lit(value, pl.String) for name, value in constants.items() if name not in table.columns}
    if not added:
        return table

    def scan(wanted: Sequence[str]) -> pl.LazyFrame:
        own = [name for name in wanted if name not in added] or table.columns[:1]
        return table.scan(own).with_columns(**added).select(wanted)

    return Table([*table.columns, *added], scan, common=None if table.common is None else [*table.common, *added])


def _of(frame: pl.LazyFrame) -> Table:
    return replace(_plain(frame), whole=frame)


def _named(frame: pl.LazyFrame, format: str) -> pl.LazyFrame:
    """RecBole writes the type behind the name: `user_id:token`. Sequences, values between blanks, become lists."""
    if format != "inter":
        return frame
    new: dict[str, str] = {}
    lists = []
    for name in frame.collect_schema().names():
        plain, _, kind = name.partition(":")
        new[name] = f"{plain}_duplicated_{len(new)}" if plain in new.values() else plain
        if kind in ("token_seq", "float_seq"):
            parts = pl.col(name).str.split(" ").list.eval(pl.element().filter(pl.element() != ""))
            lists.append(parts.cast(pl.List(pl.Float64), strict=False) if kind == "float_seq" else parts)
    return frame.with_columns(lists).rename(new)


def _parquet(paths: list[Path]) -> Table:
    frames = [pl.scan_parquet(path, glob=False) for path in paths]
    schemas = [frame.collect_schema() for frame in frames]
    if any(list(schema.items()) != list(schemas[0].items()) for schema in schemas):
        return matched([_plain(frame) for frame in frames], paths)
    return _plain(pl.scan_parquet(paths, glob=False))


def _plain(frame: pl.LazyFrame) -> Table:
    return Table(frame.collect_schema().names(), lambda wanted: frame.select(wanted))


def _delimited(paths: list[Path], separator: str, names: Sequence[str], quote: str | None) -> pl.LazyFrame:
    if len(separator.encode()) == 1:
        frame = pl.scan_csv(
            paths, separator=separator, has_header=not names, quote_char=quote, infer_schema=False, glob=False
        )  # fmt: skip
        if not names:
            return frame
        found = frame.collect_schema().names()
        if len(found) != len(names):
            raise RecsysLabError(
                f"{paths[0]} has {number_of(len(found), 'column')} when split at {separator!r}, but {len(names)} are "
                f"expected: {', '.join(names)}"
            )
        return frame.rename(dict(zip(found, names, strict=True)))
    # polars splits at one byte only: take whole lines and split them
    header: list[str] = []
    for name in names or _first_line(paths[0]).split(separator):
        header.append(f"{name}_duplicated_{len(header)}" if name in header else name)
    lines = pl.concat([_lines(p, skip=0 if names else _header_lines(p)) for p in paths])
    fields = pl.col("line").str.splitn(separator, len(header)).struct.rename_fields(header)
    return lines.select(fields.struct.unnest())


def _lines(path: Path, skip: int = 0) -> pl.LazyFrame:
    return pl.scan_csv(
        path, separator="\x01", has_header=False, new_columns=["line"], quote_char=None, infer_schema=False,
        skip_lines=skip, glob=False,
    )  # fmt: skip


def _pairs(paths: list[Path]) -> pl.LazyFrame:
    """`user item` per line, between them any white space."""
    first = _first_line(paths[0]).split()
    if len(first) != 2:
        raise RecsysLabError(
            f"{paths[0]} has {number_of(len(first), 'column')} when split at white space, but 2 are expected: a user "
            "and an item"
        )
    line = pl.concat([_lines(p) for p in paths]).select(pl.col("line").str.strip_chars())
    words = pl.col("line").str
    # a line of three is a user without an item, not an empty line
    return line.select(words.extract(r"^(\S+)").alias(USER_ID), words.extract(r"^\S+\s+(\S+)$").alias(ITEM_ID))


def _sequences(paths: list[Path]) -> pl.LazyFrame:
    """`user item item ...` per line -> one row per item, in file order."""
    words = pl.concat([_lines(p) for p in paths]).select(
        words=pl.col("line").str.strip_chars().str.replace_all(r"\s+", " ").str.split(" ")
    )
    items = pl.col("words").list.slice(1)
    some = pl.when(items.list.len() > 0).then(items)  # a user without items becomes a missing id, not nothing
    user = pl.col("words").list.first()
    return words.select(pl.when(user != "").then(user).alias(USER_ID), some.alias(ITEM_ID)).explode(ITEM_ID)


def _jsonl(paths: list[Path]) -> Table:
    keys: dict[str, None] = {}
    for number, line in zip(range(1, JSON_SAMPLE + 1), text_lines(paths[0]), strict=False):
        if line.strip():
            keys |= dict.fromkeys(json_record(paths[0], number, line))
    # every field as text: polars prints numbers, so that 7 and "7" in one file are one id
    return Table(list(keys), lambda wanted: pl.scan_ndjson(paths, schema=dict.fromkeys(wanted, pl.String)))


def is_gzip(path: Path) -> bool:
    return packing_of(path) == "gzip"


def has_content(path: Path, format: str) -> bool:
    """Whether a file has any row."""
    return path.stat().st_size > 0 if format == "parquet" else bool(_first_line(path))


def _first_line(path: Path) -> str:
    return next((line.rstrip("\r\n") for line in text_lines(path) if line.strip()), "")


def _header_lines(path: Path) -> int:
    """Lines up to the header, and it."""
    return next((number for number, line in enumerate(text_lines(path), start=1) if line.strip()), 0)


def _is_quoted(line: str, separator: str) -> bool:
    """Whether every field of the first line is in quotes: only then quotes between tabs are more than text."""
    fields = line.split(separator)
    return all(len(field) > 1 and field[0] == field[-1] == '"' for field in fields)
