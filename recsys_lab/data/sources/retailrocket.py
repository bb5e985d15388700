"""RetailRocket: views, carts and purchases of a web shop over 4.5 months. Needs a Kaggle account.

No checksum is published; the publisher's numbers of events and visitors are compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from recsys_lab.data.reading.columns import Columns
from recsys_lab.data.reading.file_source import read_interactions
from recsys_lab.data.reading.raw_files import Counts, PublicFile
from recsys_lab.data.reading.source import PublicSource, RawTables

COLUMNS = Columns(user="visitorid", item="itemid", timestamp="timestamp", event_type="event")


def parse(files: Mapping[str, Path]) -> RawTables:
    return RawTables(read_interactions([files["events.csv"]], "csv", COLUMNS))


SOURCES = [
    PublicSource(
        name="retailrocket",
        licence="Retailrocket: CC BY-NC-SA 4.0",
        homepage="https://www.kaggle.com/datasets/retailrocket/ecommerce-dataset",
        citation="Retailrocket recommender system dataset, Kaggle 2017",
        files=(PublicFile("events.csv"),),
        parse=parse,
        counts=Counts(events=2_756_101, users=1_407_580),
        instructions=(
            "Log in to Kaggle, open https://www.kaggle.com/datasets/retailrocket/ecommerce-dataset, download the "
            "archive and unpack it; only events.csv is needed."
        ),
        settings={"min_user_events": 5, "min_item_events": 5},
    )
]
