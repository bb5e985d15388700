"""YooChoose: clicks by session from the RecSys Challenge 2015. The archive is 7z, so it is unpacked by hand.

A session is a user here; only clicks are read, not the purchases. No checksum is published; the numbers of clicks,
sessions and items are compared.
Ben-Shimon et al.: RecSys Challenge 2015 and the YOOCHOOSE Dataset, RecSys 2015.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from recsys_lab.data.reading.columns import Columns
from recsys_lab.data.reading.file_source import read_interactions
from recsys_lab.data.reading.raw_files import Counts, PublicFile
from recsys_lab.data.reading.source import PublicSource, RawTables
from recsys_lab.words import ITEM_ID, TIMESTAMP, USER_ID

FILE = "yoochoose-clicks.dat"


def parse(files: Mapping[str, Path]) -> RawTables:
    names = (USER_ID, TIMESTAMP, ITEM_ID, "category")
    return RawTables(read_interactions([files[FILE]], "csv", Columns(), names=names))


SOURCES = [
    PublicSource(
        name="yoochoose",
        licence="YooChoose, RecSys Challenge 2015: CC BY-NC-ND 4.0",
        homepage="https://www.kaggle.com/datasets/chadgostopp/recsys-challenge-2015",
        citation="Ben-Shimon et al.: RecSys Challenge 2015 and the YOOCHOOSE Dataset, RecSys 2015",
        files=(PublicFile(FILE),),
        parse=parse,
        counts=Counts(events=33_003_944, users=9_249_729, items=52_739),
        instructions=(
            "Log in to Kaggle and download https://www.kaggle.com/datasets/chadgostopp/recsys-challenge-2015 (or "
            "yoochoose-data.7z from https://s3-eu-west-1.amazonaws.com/yc-rdata/yoochoose-data.7z) and unpack it."
        ),
        settings={"min_user_events": 2, "min_item_events": 5},
    )
]
