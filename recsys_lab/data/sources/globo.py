"""Globo.com news: clicks on the portal G1 in October 2017, with the situation of each. Needs a Kaggle account.

Moreira, Jannach, da Cunha: Contextual Hybrid Session-based News Recommendation with Recurrent Neural Networks, IEEE
Access 2019. The published numbers of clicks, users and articles are compared. The publisher's article vectors are a
pickle, and are not read: save them as `.npy` for `--model.item_vectors`.
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

HOURS = 385
ARTICLES = "articles_metadata.csv"
COLUMNS = Columns(user="user_id", item="click_article_id", timestamp="click_timestamp")
SITUATION = ("environment", "deviceGroup", "os", "country", "region", "referrer_type")


def parse(files: Mapping[str, Path]) -> RawTables:
    """Clicks, a file for each hour; categories, publishers, lengths and dates of the articles."""
    hours = [path for name, path in sorted(files.items()) if name != ARTICLES]
    clicks = read_interactions(hours, "csv", COLUMNS).rename({f"click_{name}": name for name in SITUATION})
    if ARTICLES not in files:
        return RawTables(clicks)
    rows = pl.scan_csv(files[ARTICLES])
    made = pl.from_epoch("created_at_ts", time_unit="ms").alias("created")
    return RawTables(clicks, rows.select(pl.col("article_id").alias(ITEM_ID), "category_id", "words_count", made))


SOURCES = [
    PublicSource(
        name="globo-news",
        licence="Globo.com and CI&T: research, non-commercial",
        homepage="https://www.kaggle.com/datasets/gspmoreira/news-portal-user-interactions-by-globocom",
        citation="Moreira et al.: Contextual Hybrid Session-based News Recommendation with RNNs, IEEE Access 2019",
        files=(
            *(PublicFile(f"clicks_hour_{hour:03d}.csv") for hour in range(HOURS)),
            PublicFile(ARTICLES, optional=True),
        ),
        parse=parse,
        counts=Counts(events=2_988_181, users=322_897, items=46_033),
        instructions=(
            "Log in to Kaggle, open "
            "https://www.kaggle.com/datasets/gspmoreira/news-portal-user-interactions-by-globocom, download and unpack "
            "clicks.zip (a folder clicks with a file for each hour) and articles_metadata.csv."
        ),
        settings={
            "fields": [
                "session_id=categorical",
                "session_start=drop",
                "session_size=drop",
                *(f"{name}=categorical" for name in SITUATION),
            ]
        },
    )
]
