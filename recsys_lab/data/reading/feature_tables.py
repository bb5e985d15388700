"""Tables with a row per item or user: one id column, and further columns with what they hold."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from recsys_lab.data.reading.faults import explain
from recsys_lab.data.reading.formats import format_of, open_table
from recsys_lab.data.reading.spelling import option
from recsys_lab.data.reading.text_columns import typed
from recsys_lab.words import ITEM_ID, RecsysLabError


def read_table(paths: list[Path], key: str, dtype: pl.DataType, canonical: str = ITEM_ID) -> pl.LazyFrame:
    """An item (or user) table with its id column `key` as `item_id` (`user_id`) of the type that the interactions have.

    Raises:
        RecsysLabError: when there is no such column, listing those found.
    """
    where, format = str(paths[0]), format_of(str(paths[0]))
    what = canonical.removesuffix("_id")
    try:
        opened = open_table(paths, format)
        found = opened.columns
        if key not in found:
            raise RecsysLabError(
                f"{where} has no column {key!r} with the {what} id; it has: {', '.join(found)}. Name the right one "
                f"with {option(f'{what}s_column')}"
            )
        if opened.twins([key]):
            raise RecsysLabError(f"{where} has two columns named {key!r}; rename one in the file")
        if format == "jsonl":
            table = pl.scan_ndjson(paths, schema_overrides={key: pl.String}, infer_schema_length=None)
        else:
            table = opened.scan(found)
        if key != canonical and canonical in found:
            table = table.drop(canonical)  # another thing by that name: the id is what the user named
        # an id that isn't of the interactions' type can't be in them: its row is of no use
        table = table.rename({key: canonical}).with_columns(pl.col(canonical).cast(dtype, strict=False))
        text = [name for name, kind in table.collect_schema().items() if kind == pl.String and name != canonical]
        table = typed(table, text)
        table.select(pl.all().null_count()).collect(engine="streaming")  # read once: a fault is better told here
        return table.drop_nulls(canonical)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise unreadable(paths, format, None, (), error) from error


def unreadable(
    paths: list[Path], format: str, separator: str | None, names: tuple[str, ...], error: BaseException
) -> RecsysLabError:
    why = explain(paths, format, separator, names)
    first = (str(error).splitlines() or [type(error).__name__])[0]
    return RecsysLabError(why or f"{paths[0]} can't be read as {format}: {first}")
