"""Around lists: ids that are typed or read, and files of lists that are written, whole or not at all."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import polars as pl

from recsys_lab.runs.run_files import written
from recsys_lab.words import ITEM_ID, USER_ID, RecsysLabError

WRITERS = (".parquet", ".csv", ".jsonl")
"""Endings of the files that lists are written to."""


def read_ids(path: str | Path) -> list[Any] | dict[Any, list[Any]]:
    """The item ids of a file; by user, where the file has a column of them.

    Args:
        path: text with an id on each line, or `.csv` or `.parquet` with a column `item_id` and, for ids of each user's
            own, `user_id`.

    Raises:
        RecsysLabError: for a file that can't be read, or that has no such column.
    """
    path = Path(path)
    try:
        if path.suffix not in (".csv", ".parquet"):
            return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        table = pl.read_parquet(path) if path.suffix == ".parquet" else pl.read_csv(path, infer_schema=False)
    except (OSError, UnicodeDecodeError, pl.exceptions.PolarsError) as error:
        raise RecsysLabError(f"{path} can't be read: {str(error).splitlines()[0]}") from error
    if ITEM_ID not in table.columns:
        raise RecsysLabError(f"{path} has no column {ITEM_ID!r}; it has {', '.join(table.columns)}")
    if USER_ID not in table.columns:
        return table[ITEM_ID].to_list()
    by_user = table.group_by(USER_ID, maintain_order=True).agg(ITEM_ID)
    return dict(zip(by_user[USER_ID].to_list(), by_user[ITEM_ID].to_list(), strict=True))


def typed_ids(text: str, option: str = "--history") -> list[str]:
    """Item ids as they are typed: with commas between them, and with double quotes around one that has a comma, as in
    a CSV file.

    Raises:
        RecsysLabError: for a double quote that begins an id and does not end it.
    """
    try:
        rows = list(csv.reader(text.splitlines(), skipinitialspace=True, strict=True))
    except csv.Error as error:
        raise RecsysLabError(
            f"{option} {text}: a double quote that begins an item id must end it ({error}). A quote within it is "
            'doubled: "a ""quoted"" id, with a comma",next'
        ) from error
    return [part.strip() for row in rows for part in row if part.strip()]


def check_output(path: str | Path) -> None:
    """Raises RecsysLabError for a name that no lists can be written to: before anything is computed."""
    if Path(path).suffix not in WRITERS:
        raise RecsysLabError(f"--output {path}: its name must end in one of {', '.join(WRITERS)}")
    if not Path(path).absolute().parent.is_dir():
        raise RecsysLabError(f"--output {path}: there is no folder {Path(path).absolute().parent}")


def write_lists(parts: Iterable[pl.DataFrame], path: str | Path) -> int:
    """Writes frames one after the other into one file; -> how many rows. No more than one of them is held."""
    path, rows = Path(path), 0
    with written(path) as partial:
        if path.suffix != ".parquet":
            with partial.open("wb") as file:
                for number, part in enumerate(parts):
                    rows += part.height
                    part.write_csv(file, include_header=not number) if path.suffix == ".csv" else part.write_ndjson(
                        file
                    )
            return rows
        scratch = path.with_name(f"{path.name}.parts")
        shutil.rmtree(scratch, ignore_errors=True)  # of a process that was killed
        scratch.mkdir()
        try:
            files: list[Path] = []
            for part in parts:
                rows += part.height
                files.append(scratch / f"{len(files):06d}.parquet")
                part.write_parquet(files[-1])
            pl.scan_parquet(files).sink_parquet(partial, maintain_order=True)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return rows
