"""Amazon Reviews 2018, 5-core, one set per category, with texts of the items: `amazon-2018-office-products`, ...

Ni, Li, McAuley: Justifying Recommendations using Distantly-Labeled Reviews and Fine-grained Aspects, EMNLP 2019.

The publisher states no checksums, only the number of reviews per category, so that number is compared. Times are days.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import polars as pl

from recsys_lab.data.reading.columns import Columns
from recsys_lab.data.reading.file_source import read_interactions
from recsys_lab.data.reading.raw_files import Counts, PublicFile
from recsys_lab.data.reading.source import PublicSource, RawTables
from recsys_lab.words import ITEM_ID

URL = "https://mcauleylab.ucsd.edu/public_datasets/data/amazon_v2/"
COLUMNS = Columns(user="reviewerID", item="asin", timestamp="unixReviewTime", rating="overall")
COUNTS = {
    "AMAZON_FASHION": 3_176,
    "All_Beauty": 5_269,
    "Appliances": 2_277,
    "Arts_Crafts_and_Sewing": 494_485,
    "CDs_and_Vinyl": 1_443_755,
    "Digital_Music": 169_781,
    "Gift_Cards": 2_972,
    "Industrial_and_Scientific": 77_071,
    "Luxury_Beauty": 34_278,
    "Magazine_Subscriptions": 2_375,
    "Musical_Instruments": 231_392,
    "Office_Products": 800_357,
    "Prime_Pantry": 137_788,
    "Software": 12_805,
    "Video_Games": 497_577,
}
"""Categories of the publisher's page and the number of reviews that it states."""
OF_ITEM: dict[str, pl.DataType] = {
    "asin": pl.String(),
    "title": pl.String(),
    "brand": pl.String(),
    "category": pl.List(pl.String()),
    "description": pl.List(pl.String()),
    "price": pl.String(),
}


def _parser(reviews: str, items: str) -> Callable[[Mapping[str, Path]], RawTables]:
    def parse(files: Mapping[str, Path]) -> RawTables:
        events = read_interactions([files[reviews]], "jsonl", COLUMNS, further=False)
        return RawTables(events, _items(files[items]) if items in files else None)

    return parse


def _items(path: Path) -> pl.LazyFrame:
    """Title, brand, categories, description as one text, and the price where it is one; an item once."""
    rows = pl.scan_ndjson(path, schema=OF_ITEM).unique("asin", keep="first", maintain_order=True)
    price = pl.col("price").str.extract(r"^\$([\d,.]+)$").str.replace_all(",", "").cast(pl.Float64, strict=False)
    description = pl.col("description").list.join(" ")
    return rows.select(pl.col("asin").alias(ITEM_ID), "title", "brand", "category", description, price)


def _source(category: str, reviews: int) -> PublicSource:
    file, meta = f"{category}_5.json.gz", f"meta_{category}.json.gz"
    return PublicSource(
        name=f"amazon-2018-{category.lower().replace('_', '-')}",
        licence="Amazon Reviews 2018 (McAuley lab): research use, no formal licence, cite the authors",
        homepage="https://nijianmo.github.io/amazon/",
        citation="Ni, Li, McAuley: Justifying Recommendations using Distantly-Labeled Reviews, EMNLP 2019",
        files=(
            PublicFile(file, (f"{URL}categoryFilesSmall/{file}",)),
            PublicFile(meta, (f"{URL}metaFiles2/{meta}",), optional=True),
        ),
        parse=_parser(file, meta),
        counts=Counts(reviews),
    )


SOURCES = [_source(category, reviews) for category, reviews in COUNTS.items()]
