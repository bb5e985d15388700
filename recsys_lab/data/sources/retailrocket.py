"""RetailRocket: views, carts and purchases of a web shop over 4.5 months. Needs a Kaggle account.

No checksum is published; the publisher's numbers of events and visitors are compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from recsys_lab.data.reading.columns import Columns
from recsys_lab.data.reading.file_source import read_interactions
from recsys_lab.data.reading.raw_files import Counts, PublicFile
from recsys_lab.data.reading.source import PublicSource, RawTables
from recsys_lab.words import ITEM_ID

COLUMNS = Columns(user="visitorid", item="itemid", timestamp="timestamp", event_type="event")
PROPERTIES = ("item_properties_part1.csv", "item_properties_part2.csv")


def parse(files: Mapping[str, Path]) -> RawTables:
    """Events; the category that an item has first, since later ones may not have been known."""
    events = read_interactions([files["events.csv"]], "csv", COLUMNS)
    parts = [files[name] for name in PROPERTIES if name in files]
    if not parts:
        return RawTables(events)
    rows = pl.scan_csv(parts, schema_overrides={"value": pl.String}).filter(pl.col("property") == "categoryid")
    first = rows.sort("timestamp", maintain_order=True).unique("itemid", keep="first", maintain_order=True)
    return RawTables(events, first.select(pl.col("itemid").alias(ITEM_ID), pl.col("value").alias("category")))


SOURCES = [
    PublicSource(
        name="retailrocket",
        licence="Retailrocket: CC BY-NC-SA 4.0",
        homepage="https://www.kaggle.com/datasets/retailrocket/ecommerce-dataset",
        citation="Retailrocket recommender system dataset, Kaggle 2017",
        files=(PublicFile("events.csv"), *(PublicFile(name, optional=True) for name in PROPERTIES)),
        parse=parse,
        counts=Counts(events=2_756_101, users=1_407_580),
        instructions=(
            "Log in to Kaggle, open https://www.kaggle.com/datasets/retailrocket/ecommerce-dataset, download the "
            "archive and unpack it; events.csv is needed, the item properties bring the categories."
        ),
        settings={"min_user_events": 5, "min_item_events": 5},
    )
]
