"""Fields of the tables of items and users: a row for each item or user of the prepared set, all in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import polars as pl

from recsys_lab.data.fields.coding import Coding, distinct
from recsys_lab.data.fields.kinds import Column, ColumnStats
from recsys_lab.data.fields.stored import Scope, StoredField
from recsys_lab.data.fields.wishes import Wishes
from recsys_lab.data.fields.writing import FieldWriter, Rows, Writer, in_rows


def table_columns(frame: pl.DataFrame, table: Scope, wishes: Wishes, source: str) -> list[Column]:
    """The columns of `frame` (all but the first, which is the id) that become fields.

    Raises:
        RecsysLabError: where a column can't be what the user says.
    """
    found = []
    for name in frame.columns[1:]:
        wish = wishes.of(table, name)
        if wish.drop:
            continue
        stats = ColumnStats(name, frame.schema[name], wish)
        facts = {"known": 0}
        if not stats.refused:
            facts = frame.lazy().select(**stats.exprs()).collect().row(0, named=True)
        column = stats.column_of(name, table, facts, source)
        if column is not None:
            found.append(column)
    return found


def write_table_fields(
    frame: pl.DataFrame, columns: list[Column], files: Mapping[str, str], writer: Writer
) -> list[StoredField]:
    """Writes the columns of a table; `files` has the file name of each."""
    return [_write(frame, column, files[column.name], writer) for column in columns]


def _write(frame: pl.DataFrame, column: Column, file: str, writer: Writer) -> StoredField:
    name, coding = column.name, None
    stored = column.physical(name)
    if column.kind in ("categorical", "multi"):
        coding = Coding(distinct(frame.lazy(), column, name).collect()["value"])
        stored = coding.codes(column, name)
    rows = in_rows(frame.select(stored.alias(name))[name], column)

    def parts() -> Iterator[Rows]:
        yield rows

    return FieldWriter(writer, column, coding, file).write(parts, frame.height)
