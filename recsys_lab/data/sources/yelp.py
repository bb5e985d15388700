"""Yelp: reviews of businesses with their names, categories and places. To be downloaded with a browser.

The publisher brings out a new edition every few years, without checksums; so nothing is compared, and the manifest has
the digest of the files that were read.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from recsys_lab.data.reading.columns import Columns
from recsys_lab.data.reading.file_source import read_interactions
from recsys_lab.data.reading.raw_files import PublicFile
from recsys_lab.data.reading.source import PublicSource, RawTables
from recsys_lab.words import ITEM_ID

REVIEWS, BUSINESSES = "yelp_academic_dataset_review.json", "yelp_academic_dataset_business.json"
COLUMNS = Columns(user="user_id", item="business_id", timestamp="date", rating="stars")
OF_BUSINESS: dict[str, pl.DataType] = {
    "business_id": pl.String(),
    "name": pl.String(),
    "city": pl.String(),
    "state": pl.String(),
    "categories": pl.String(),
}


def parse(files: Mapping[str, Path]) -> RawTables:
    """Reviews without their texts; names, places and categories of the businesses."""
    reviews = read_interactions([files[REVIEWS]], "jsonl", COLUMNS, further=False)
    if BUSINESSES not in files:
        return RawTables(reviews)
    rows = pl.scan_ndjson(files[BUSINESSES], schema=OF_BUSINESS)
    categories = pl.col("categories").str.split(", ")
    items = rows.select(
        pl.col("business_id").alias(ITEM_ID), pl.col("name").alias("title"), "city", "state", categories
    )
    return RawTables(reviews, items)


SOURCES = [
    PublicSource(
        name="yelp",
        licence="Yelp data set licence: academic use, no redistribution",
        homepage="https://business.yelp.com/data/resources/open-dataset/",
        citation="Yelp Open Dataset",
        files=(PublicFile(REVIEWS), PublicFile(BUSINESSES, optional=True)),
        parse=parse,
        instructions=(
            "Open https://business.yelp.com/data/resources/open-dataset/, accept the licence, download the JSON "
            "archive and unpack it."
        ),
        settings={"min_user_events": 5, "min_item_events": 5},
    )
]
