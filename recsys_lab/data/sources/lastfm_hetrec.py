"""Last.fm (HetRec 2011): which artist a user tagged, and when.

Cantador, Brusilovsky, Kuflik: 2nd Workshop on Information Heterogeneity and Fusion in Recommender Systems, RecSys 2011.

The listening counts of the set have no time, so events are the tag assignments, as in S3-Rec and others: several tags
given to one artist at one moment are one event. A few times are broken (before Last.fm existed): those rows are left
out, with a message.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import polars as pl

from recsys_lab.data.reading.raw_files import PublicFile
from recsys_lab.data.reading.source import PublicSource, RawTables
from recsys_lab.words import ITEM_ID, TIMESTAMP, USER_ID, RecsysLabError

log = logging.getLogger(__name__)

EVENTS, ARTISTS = "user_taggedartists-timestamps.dat", "artists.dat"
FIRST_MOMENT = 1_009_843_200  # 2002-01-01, the year Last.fm began; in seconds


def parse(files: Mapping[str, Path]) -> RawTables:
    table = pl.scan_csv(files[EVENTS], separator="\t", quote_char=None)
    try:
        events = table.select(
            pl.col("userID").cast(pl.Int64).alias(USER_ID),
            pl.col("artistID").cast(pl.Int64).alias(ITEM_ID),
            pl.col("timestamp").cast(pl.Int64).alias("milliseconds"),
        ).collect()
    except pl.exceptions.PolarsError as error:
        raise RecsysLabError(f"{files[EVENTS]} is not the published table: {str(error).splitlines()[0]}") from error
    timed = events.filter(pl.col("milliseconds") >= FIRST_MOMENT * 1000)
    if len(timed) < len(events):
        log.warning("lastfm-hetrec: %d rows with a time before 2002 left out", len(events) - len(timed))
    interactions = (
        timed.unique(maintain_order=True)
        .with_row_index("order")
        .select(
            USER_ID, ITEM_ID, (pl.col("milliseconds") // 1000).alias(TIMESTAMP), pl.col("order").cast(pl.Int64)
        )  # fmt: skip
    )
    return RawTables(interactions.lazy(), _artists(files[ARTISTS]) if ARTISTS in files else None)


def _artists(path: Path) -> pl.LazyFrame:
    table = pl.scan_csv(path, separator="\t", quote_char=None, infer_schema=False, encoding="utf8-lossy")
    return table.select(pl.col("id").cast(pl.Int64).alias(ITEM_ID), "name")


SOURCES = [
    PublicSource(
        name="lastfm-hetrec",
        licence="Last.fm data, HetRec 2011: non-commercial use, cite the authors",
        homepage="https://grouplens.org/datasets/hetrec-2011/",
        citation="Cantador, Brusilovsky, Kuflik: HetRec 2011, RecSys 2011",
        files=(PublicFile(EVENTS), PublicFile(ARTISTS, optional=True)),
        archive=PublicFile(
            "hetrec2011-lastfm-2k.zip",
            ("https://files.grouplens.org/datasets/hetrec2011/hetrec2011-lastfm-2k.zip",),
            # not the publisher's: the loaders of OmniRec (University of Siegen) and others state it
            "sha256:6738f48195667ff03caaab4d32ca9a3133d8cc026b7c3cdaf6ce1010e913c59c",
        ),
        parse=parse,
    )
]
