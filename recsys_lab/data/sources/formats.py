"""File formats -> lazy tables. Text formats are read as text throughout: types are decided on the whole column."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import polars as pl

from recsys_lab.schema import ITEM_ID, USER_ID, RecsysLabError

Format = Literal["csv", "tsv", "jsonl", "parquet", "inter", "pairs", "sequences"]
FORMATS: tuple[str, ...] = get_args(Format)
SUFFIXES = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".inter": "inter",
    ".item": "inter",
    ".user": "inter",
}
JSON_SAMPLE = 1000  # lines of a JSON Lines file that are looked at for its keys


@dataclass(frozen=True)
class Table:
    """A file that is not read yet: its column names, and how to scan chosen ones."""

    columns: list[str]
    scan: Callable[[Sequence[str]], pl.LazyFrame]


def format_of(path: str) -> str:
    """The format that a file name tells.

    Raises:
        RecsysLabError: for a name that tells none, listing the formats.
    """
    suffix = Path(path.removesuffix(".gz")).suffix.lower()
    if suffix not in SUFFIXES:
        raise RecsysLabError(f"the name of {path} does not tell its format; give format= one of {', '.join(FORMATS)}")
    return SUFFIXES[suffix]


def open_table(paths: list[Path], format: str, separator: str | None = None, names: Sequence[str] = ()) -> Table:
    """The table in `paths` (several files are read one after the other).

    Args:
        paths: local files; gzip is recognised in all text formats.
        format: one of `FORMATS`.
        separator: between fields, for csv and tsv; may be longer than one character (MovieLens: `::`).
        names: names of the columns of a csv or tsv file without a header line.

    Raises:
        RecsysLabError: for an empty file, or one that is not of this format.
    """
    if format not in FORMATS:
        raise RecsysLabError(f"unknown format {format!r}; known: {', '.join(FORMATS)}")
    empty = [p for p in paths if not _first_line(p, format)]
    if empty:
        raise RecsysLabError(f"{empty[0]} is empty")
    if format == "parquet":
        frame = pl.scan_parquet(paths)
        return Table(frame.collect_schema().names(), lambda wanted: frame.select(wanted))
    if format == "jsonl":
        return _jsonl(paths)
    if format == "sequences":
        return _fixed(_sequences(paths))
    if format == "pairs":
        return _fixed(_delimited(paths, separator or " ", (USER_ID, ITEM_ID), quote=None))
    if format == "inter":
        frame = _delimited(paths, "\t", (), quote=None)
        typed = frame.collect_schema().names()
        return _fixed(frame.rename({name: name.partition(":")[0] for name in typed}))
    if format == "tsv":
        return _fixed(_delimited(paths, separator or "\t", names, quote=None))
    return _fixed(_delimited(paths, separator or ",", names, quote='"'))


def _fixed(frame: pl.LazyFrame) -> Table:
    return Table(frame.collect_schema().names(), lambda wanted: frame.select(wanted))


def _delimited(paths: list[Path], separator: str, names: Sequence[str], quote: str | None) -> pl.LazyFrame:
    if len(separator) == 1:
        frame = pl.scan_csv(
            paths, separator=separator, has_header=not names, quote_char=quote, infer_schema=False
        )  # fmt: skip
        if not names:
            return frame
        found = frame.collect_schema().names()
        if len(found) != len(names):
            raise RecsysLabError(
                f"{paths[0]} has {len(found)} columns when split at {separator!r}, but {len(names)} are expected: "
                f"{', '.join(names)}"
            )
        return frame.rename(dict(zip(found, names, strict=True)))
    # polars splits at one byte only: take whole lines and split them
    header = list(names) or _first_line(paths[0], "csv").split(separator)
    lines = pl.concat([_lines(p, skip=0 if names else 1) for p in paths])
    fields = pl.col("line").str.splitn(separator, len(header)).struct.rename_fields(header)
    return lines.select(fields.struct.unnest())


def _lines(path: Path, skip: int = 0) -> pl.LazyFrame:
    return pl.scan_csv(
        path, separator="\x01", has_header=False, new_columns=["line"], quote_char=None, infer_schema=False,
        skip_rows=skip,
    )  # fmt: skip


def _sequences(paths: list[Path]) -> pl.LazyFrame:
    """`user item item ...` per line -> one row per item, in file order."""
    words = pl.concat([_lines(p) for p in paths]).select(
        words=pl.col("line").str.strip_chars().str.replace_all(r"\s+", " ").str.split(" ")
    )
    items = pl.col("words").list.slice(1)
    some = pl.when(items.list.len() > 0).then(items)  # a user without items becomes a missing id, not nothing
    return words.select(pl.col("words").list.first().alias(USER_ID), some.alias(ITEM_ID)).explode(ITEM_ID)


def _jsonl(paths: list[Path]) -> Table:
    keys: dict[str, None] = {}
    with _open(paths[0]) as lines:
        for number, line in zip(range(1, JSON_SAMPLE + 1), lines, strict=False):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except ValueError as error:
                raise RecsysLabError(f"{paths[0]}: line {number} is not JSON: {line[:80].strip()!r}") from error
            if not isinstance(record, dict):
                raise RecsysLabError(f"{paths[0]}: line {number} is not a JSON object: {line[:80].strip()!r}")
            keys |= dict.fromkeys(record)
    # every field as text: polars prints numbers, so that 7 and "7" in one file are one id
    return Table(list(keys), lambda wanted: pl.scan_ndjson(paths, schema=dict.fromkeys(wanted, pl.String)))


def _open(path: Path):  # type: ignore[no-untyped-def]  # gzip.open and open share no type
    return gzip.open(path, "rt", encoding="utf-8") if is_gzip(path) else path.open(encoding="utf-8")


def is_gzip(path: Path) -> bool:
    with path.open("rb") as handle:
        return handle.read(2) == b"\x1f\x8b"


def _first_line(path: Path, format: str) -> str:
    if format == "parquet":
        return "x" if path.stat().st_size else ""
    try:
        with _open(path) as lines:
            return next((line.rstrip("\r\n") for line in lines if line.strip()), "")
    except (UnicodeDecodeError, EOFError, gzip.BadGzipFile) as error:
        raise RecsysLabError(f"{path} can't be read as {format}: {error}") from error
