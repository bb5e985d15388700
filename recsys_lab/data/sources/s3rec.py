"""The data sets published with S3Rec: 5-core, ids renumbered, one user per line in the order of time; no timestamps.

Zhou et al.: S3-Rec: Self-Supervised Learning for Sequential Recommendation with Mutual Information Maximization,
CIKM 2020. Checksums are of the files in the authors' repository at the commit named below.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from recsys_lab.data.reading.columns import Columns
from recsys_lab.data.reading.file_source import read_interactions
from recsys_lab.data.reading.raw_files import Counts, PublicFile
from recsys_lab.data.reading.source import PublicSource, RawTables

COMMIT = "2a81540ae18615d88ef88227b0c066e5b74781e5"
URL = f"https://raw.githubusercontent.com/RUCAIBox/CIKM2020-S3Rec/{COMMIT}/data/"
AMAZON = "Amazon Reviews 2014: research use, no formal licence, cite the authors"


def _parser(file: str) -> Callable[[Mapping[str, Path]], RawTables]:
    return lambda files: RawTables(read_interactions([files[file]], "sequences", Columns()))


def _source(name: str, file: str, sha256: str, counts: Counts, licence: str) -> PublicSource:
    return PublicSource(
        name=name,
        licence=licence,
        homepage="https://github.com/RUCAIBox/CIKM2020-S3Rec",
        citation="Zhou et al.: S3-Rec, CIKM 2020",
        files=(PublicFile(file, (URL + file,), f"sha256:{sha256}"),),
        parse=_parser(file),
        counts=counts,
        has_timestamps=False,
    )


SOURCES = [
    _source(
        "amazon-beauty-s3rec",
        "Beauty.txt",
        "226cce9c3105299ca0db9615d7d3fb32b3175e90da43100ae352599f0f0107b8",
        Counts(events=198_502, users=22_363, items=12_101),
        AMAZON,
    ),
    _source(
        "amazon-sports-s3rec",
        "Sports_and_Outdoors.txt",
        "2a095e0648872beb9982408958290f5d655db5be2911c3756b5446de9f0b8de2",
        Counts(events=296_337, users=35_598, items=18_357),
        AMAZON,
    ),
    _source(
        "amazon-toys-s3rec",
        "Toys_and_Games.txt",
        "176c680c688d497598c4a89a03b402c0fe78d795e5db335c2e78dd5f2d778a3f",
        Counts(events=167_597, users=19_412, items=11_924),
        AMAZON,
    ),
    _source(
        "lastfm-s3rec",
        "LastFM.txt",
        "9ded486adb5b0fe9dc761950afa0a9a05e93ff018992e0c52bf11afec529f802",
        Counts(events=52_551, users=1_090, items=3_646),
        "Last.fm, HetRec 2011: non-commercial use, cite the authors",
    ),
]
