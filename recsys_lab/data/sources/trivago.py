"""trivago: what travellers do with the hotels that they are shown, from the RecSys Challenge 2019. Needs an account.

Knees et al.: RecSys Challenge 2019: Session-based Hotel Recommendations. Events are the actions on an item: clickouts,
and interactions with its images, info, deals and rating; filters, sorting and searches for places are left out, and
counted. The lists at clickouts are the impressions, one row for each shown item, with its price; the one clicked has
the label 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from recsys_lab.data.reading.columns import Columns
from recsys_lab.data.reading.file_source import unreadable
from recsys_lab.data.reading.formats import open_table
from recsys_lab.data.reading.raw_files import PublicFile
from recsys_lab.data.reading.source import PublicSource, RawTables
from recsys_lab.data.reading.table_checks import checked
from recsys_lab.words import ITEM_ID, TIMESTAMP, USER_ID

FILE, ITEMS = "train.csv", "item_metadata.csv"
COLUMNS = Columns(user="user_id", item="reference", timestamp="timestamp", event_type="action_type")
FURTHER = ("session_id", "step", "platform", "city", "device")
CLICKOUT = "clickout item"


def parse(files: Mapping[str, Path]) -> RawTables:
    path = files[FILE]
    table = open_table([path], "csv")
    chosen = COLUMNS.resolve(table.columns, str(path))
    try:
        raw = table.scan(table.columns)
        is_item = pl.col("reference").str.contains(r"^\d+$") & pl.col("action_type").str.contains("item")
        other = int(raw.select((~is_item).sum()).collect(engine="streaming").item())
        found = checked(raw.filter(is_item), chosen, str(path), further=FURTHER)
    except pl.exceptions.PolarsError as error:
        raise unreadable([path], "csv", None, (), error) from error
    left_out = {**found.left_out, **({"actions on no item": other} if other else {})}
    items = None
    if ITEMS in files:
        rows = pl.scan_csv(files[ITEMS], infer_schema=False)
        properties = pl.col("properties").str.split("|")
        items = rows.select(pl.col(ITEM_ID).cast(pl.Int64), properties)
    return RawTables(found.events, items, left_out=left_out, shown=_shown(raw.filter(is_item)))


def _shown(events: pl.LazyFrame) -> pl.LazyFrame:
    """One row for each item of the list at a clickout."""
    rows = events.filter((pl.col("action_type") == CLICKOUT) & (pl.col("impressions") != ""))
    number = [pl.col(name).str.split("|").list.eval(pl.element().cast(pl.Int64)) for name in ("impressions", "prices")]
    lists = rows.with_row_index("impression_id").select(
        pl.col("impression_id").cast(pl.Int64),
        USER_ID,
        pl.col(TIMESTAMP).cast(pl.Int64),
        number[0].alias(ITEM_ID),
        number[1].alias("price"),
        pl.col("reference").cast(pl.Int64),
    )
    each = lists.explode(ITEM_ID, "price")
    place = pl.int_range(pl.len()).over("impression_id") + 1
    label = (pl.col(ITEM_ID) == pl.col("reference")).cast(pl.Int64)
    return each.with_columns(position=place, label=label).drop("reference")


SOURCES = [
    PublicSource(
        name="trivago",
        licence="trivago, RecSys Challenge 2019: research use",
        homepage="https://recsys.trivago.cloud/challenge/dataset/",
        citation="Knees et al.: RecSys Challenge 2019: Session-based Hotel Recommendations, RecSys 2019",
        files=(PublicFile(FILE), PublicFile(ITEMS, optional=True)),
        parse=parse,
        instructions=(
            "Register at https://recsys.trivago.cloud/challenge/dataset/, download the archive of the challenge and "
            "unpack it."
        ),
        settings={"fields": ["session_id=categorical", "step=drop"], "min_user_events": 3},
    )
]
