"""Tables with a row per item or user: one id column, and further columns with what they hold."""

from __future__ import annotations

import logging
from pathlib import Path

import polars as pl

from recsys_lab.data.reading.columns import SEPARATORS
from recsys_lab.data.reading.faults import explain
from recsys_lab.data.reading.formats import format_of, open_table
from recsys_lab.data.reading.ids import whole_numbers
from recsys_lab.data.reading.spelling import option
from recsys_lab.data.reading.text_columns import typed
from recsys_lab.words import ITEM_ID, RecsysLabError

log = logging.getLogger(__name__)


def read_table(
    paths: list[Path], key: str, dtype: pl.DataType, canonical: str = ITEM_ID, format: str = ""
) -> pl.LazyFrame:
    """An item (or user) table with its id column `key` as `item_id` (`user_id`) of the type that the interactions have.

    Args:
        format: one of `FORMATS`; default: as the file's name says.

    Raises:
        RecsysLabError: when there is no such column, listing those found; when none of its ids can be one of the
            interactions'.
    """
    where, format = str(paths[0]), format or format_of(str(paths[0]))
    what = canonical.removesuffix("_id")
    try:
        opened = open_table(paths, format)
        found = opened.columns
        if key not in found:
            mark = next((mark for mark in SEPARATORS if mark in found[0]), None) if len(found) == 1 else None
            if mark is not None:
                raise RecsysLabError(
                    f"{where} has one column only, {found[0][:200]!r}: its fields seem to be separated by "
                    f"{SEPARATORS[mark]}. Save it with commas as .csv, or with tabs as .tsv"
                )
            raise RecsysLabError(
                f"{where} has no column {key!r} with the {what} id; it has: {', '.join(found)}. Name the right one "
                f"with {option(f'{what}s_column')}"
            )
        if opened.twins([key]):
            raise RecsysLabError(f"{where} has two columns named {key!r}; rename one in the file")
        chosen = [key, *opened.further([key], where)]
        if format == "jsonl":
            table = pl.scan_ndjson(paths, schema_overrides={key: pl.String}, infer_schema_length=None)
        else:
            table = opened.scan(chosen)
        if key != canonical and canonical in found:
            table = table.drop(canonical)  # another thing by that name: the id is what the user named
        table = table.rename({key: canonical})
        given = table.select(canonical).head(1).collect(engine="streaming")
        # an id that isn't of the interactions' type can't be in them: its row is of no use
        table = table.with_columns(_as_ids(canonical, table.collect_schema()[canonical], dtype))
        text = [name for name, kind in table.collect_schema().items() if kind == pl.String and name != canonical]
        table = typed(table, text)
        # read once: a fault is better told here
        read = table.select(pl.len().alias("\n"), pl.all().null_count()).collect(engine="streaming").row(0, named=True)
        rows, lost = read["\n"], read[canonical]
        if rows and lost == rows:
            kind = "whole numbers" if dtype.is_integer() else "text"
            raise RecsysLabError(
                f"{where}: none of the {rows:,} ids in column {key!r} can be one of the events', which are {kind}; the "
                f"first is {given.item()!r}. Name another column with {option(f'{what}s_column')}"
            )
        if lost:
            log.info("%s: %s rows left out: no id, or one that no event can have", where, f"{lost:,}")
        if len(chosen) == 1:
            log.warning("%s has no column but %r, so it adds nothing", where, key)
        return table.drop_nulls(canonical)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise unreadable(paths, format, None, (), error) from error


def _as_ids(name: str, has: pl.DataType, wanted: pl.DataType) -> pl.Expr:
    """A column of ids as those of the interactions; floats that are whole numbers stand for them."""
    value = pl.col(name)
    if has == pl.String and wanted.is_integer():
        value = pl.coalesce(whole_numbers(value), value.cast(wanted, strict=False))
    if has.is_float():
        value = pl.when(value % 1 == 0).then(value).cast(pl.Int64, strict=False)
    return value.cast(wanted, strict=False)


def unreadable(
    paths: list[Path], format: str, separator: str | None, names: tuple[str, ...], error: BaseException
) -> RecsysLabError:
    why = explain(paths, format, separator, names)
    first = (str(error).splitlines() or [type(error).__name__])[0]
    return RecsysLabError(why or f"{paths[0]} can't be read as {format}: {first}")
