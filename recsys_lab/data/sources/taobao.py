"""Taobao UserBehavior: views, carts, favourites and purchases of a million users in nine days. Needs an account.

Zhu et al.: Learning Tree-based Deep Model for Recommender Systems, KDD 2018. The publisher states no checksum; its
numbers of events, users and items are compared. Some times lie outside the nine days: `--keep` leaves them out.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from recsys_lab.data.reading.columns import Columns
from recsys_lab.data.reading.file_source import read_interactions
from recsys_lab.data.reading.raw_files import Counts, PublicFile
from recsys_lab.data.reading.source import PublicSource, RawTables
from recsys_lab.words import EVENT_TYPE, ITEM_ID, TIMESTAMP, USER_ID

FILE = "UserBehavior.csv"
NAMES = (USER_ID, ITEM_ID, "category", EVENT_TYPE, TIMESTAMP)
"""The file has no header. Types are pv (a view), cart, fav and buy."""


def parse(files: Mapping[str, Path]) -> RawTables:
    return RawTables(read_interactions([files[FILE]], "csv", Columns(), names=NAMES))


SOURCES = [
    PublicSource(
        name="taobao",
        licence="Alibaba Tianchi: research use (CC BY-NC-SA 4.0)",
        homepage="https://tianchi.aliyun.com/dataset/649",
        citation="Zhu et al.: Learning Tree-based Deep Model for Recommender Systems, KDD 2018",
        files=(PublicFile(FILE),),
        parse=parse,
        counts=Counts(events=100_150_807, users=987_994, items=4_162_024),
        instructions=(
            "Log in to Tianchi, open https://tianchi.aliyun.com/dataset/649, download UserBehavior.csv.zip and unpack "
            "it."
        ),
        settings={"fields": ["category=item.categorical"], "min_item_events": 5},
    )
]
