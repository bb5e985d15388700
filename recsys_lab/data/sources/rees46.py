"""REES46: views, carts and purchases of a multi-category web shop in October 2019, with price, category and brand.

Needs a Kaggle account.

No checksum is published; the number of events is compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from recsys_lab.data.reading.columns import Columns
from recsys_lab.data.reading.file_source import read_interactions
from recsys_lab.data.reading.raw_files import Counts, PublicFile
from recsys_lab.data.reading.source import PublicSource, RawTables

FILE = "2019-Oct.csv"
COLUMNS = Columns(user="user_id", item="product_id", timestamp="event_time", event_type="event_type")


def parse(files: Mapping[str, Path]) -> RawTables:
    return RawTables(read_interactions([files[FILE]], "csv", COLUMNS))


SOURCES = [
    PublicSource(
        name="rees46",
        licence="REES46 Open CDP: free use with attribution",
        homepage="https://www.kaggle.com/datasets/mkechinov/ecommerce-behavior-data-from-multi-category-store",
        citation="Kechinov: eCommerce behavior data from multi category store, REES46 and Kaggle 2019",
        files=(PublicFile(FILE),),
        parse=parse,
        counts=Counts(events=42_448_764),
        instructions=(
            "Log in to Kaggle, open "
            "https://www.kaggle.com/datasets/mkechinov/ecommerce-behavior-data-from-multi-category-store and download "
            "2019-Oct.csv."
        ),
        settings={
            "fields": ["category_code=item.categorical", "category_id=drop", "brand=item.categorical"],
            "min_user_events": 5,
            "min_item_events": 5,
        },
    )
]
