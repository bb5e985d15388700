"""What is wrong with a text file, in words: the line, and what to do. Read only when polars has refused the file."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from recsys_lab.data.reading.copies import open_bytes, undecodable
from recsys_lab.data.reading.spelling import option
from recsys_lab.words import RecsysLabError, number_of

LONGEST = 1 << 30  # of a field, in characters: csv's own limit is 131,072


def text_lines(path: Path) -> Iterator[str]:
    """Lines of a text file, packed or not, without a byte-order mark.

    Raises:
        RecsysLabError: for bytes that are not UTF-8, naming the line.
    """
    with open_bytes(path) as handle:
        text = io.TextIOWrapper(handle, encoding="utf-8-sig", newline="\n")
        try:
            for line in text:  # noqa: UP028  (`yield from` would close the file with this generator)
                yield line
        except UnicodeDecodeError as error:
            raise RecsysLabError(undecodable(path) or f"{path} can't be decoded: {error}") from error
        finally:
            text.detach()


def json_record(path: Path, number: int, line: str) -> dict[str, Any]:
    """The object in a line of JSON Lines.

    Raises:
        RecsysLabError: when it is none, or names a key twice.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in pairs]
        if len(set(keys)) < len(keys):
            twice = next(key for key in keys if keys.count(key) > 1)
            raise RecsysLabError(f"{path}: line {number} has the key {twice!r} twice")
        return dict(pairs)

    def refused(word: str) -> Any:
        raise RecsysLabError(f"{path}: line {number} has {word}, which is no JSON; write null for a missing value")

    try:
        record = json.loads(line, object_pairs_hook=once, parse_constant=refused)
    except (ValueError, RecursionError) as error:
        raise RecsysLabError(f"{path}: line {number} is not JSON: {line[:80].strip()!r}") from error
    if not isinstance(record, dict):
        raise RecsysLabError(f"{path}: line {number} is not a JSON object: {line[:80].strip()!r}")
    return record


def explain(paths: list[Path], format: str, separator: str | None, names: tuple[str, ...]) -> str:
    """Why a text file could not be read, or "" where nothing better than the error itself is known."""
    for path in paths:
        if format == "parquet" or not path.is_file():
            continue
        text = undecodable(path)
        if not text and format == "jsonl":
            text = _bad_json(path)
        elif not text and format in ("csv", "tsv", "inter") and len((separator or ",").encode()) == 1:
            text = _bad_row(path, separator or ("," if format == "csv" else "\t"), len(names), format == "csv")
        if text:
            return text
    return ""


def _bad_json(path: Path) -> str:
    try:
        for number, line in enumerate(text_lines(path), start=1):
            if line.strip():
                record = json_record(path, number, line)
                infinite = next((k for k, v in record.items() if v in (float("inf"), float("-inf"))), None)
                if infinite is not None:
                    return f"{path}: line {number}: the number of {infinite!r} is too large"
    except RecsysLabError as error:
        return str(error)
    return ""


def _bad_row(path: Path, separator: str, num_fields: int, quoted: bool) -> str:
    """The first row with more fields than the header, or a quote that is never closed."""
    csv.field_size_limit(LONGEST)
    quoting: Any = csv.QUOTE_MINIMAL if quoted or _begins_quoted(path) else csv.QUOTE_NONE
    rows = csv.reader(text_lines(path), delimiter=separator, quoting=quoting, strict=True)
    number, header = 0 if num_fields else -1, num_fields
    line = 0
    try:
        for fields in rows:
            line = rows.line_num
            if not fields:
                continue
            number += 1
            header = header or len(fields)
            if len(fields) > header:
                known = f"but {header} columns are named" if num_fields else f"but the header line has {header}"
                hint = f"; {option('separator')} is {separator!r}" if header == 1 else ""
                return (
                    f"{path}: row {number} (line {line}) has {number_of(len(fields), 'field')}, {known}: "
                    f"{separator.join(fields)[:80]!r}. Mend or remove this row{hint}"
                )
    except csv.Error:
        return f'{path}: a quote (") that opens in line {line + 1} is not closed, or text follows it. Mend that line'
    except RecsysLabError as error:
        return str(error)
    return ""


def _begins_quoted(path: Path) -> bool:
    return next((line.startswith('"') for line in text_lines(path) if line.strip()), False)
