"""Diginetica: item views by session from CIKM Cup 2016, track 2. Has to be downloaded with a browser.

A session is a user here. Time is the day plus the milliseconds since the session began. No checksum is published; the
number of views, sessions and items is compared with what session-based papers and public loaders report of this file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from recsys_lab.data.reading.columns import Columns
from recsys_lab.data.reading.formats import open_table
from recsys_lab.data.reading.raw_files import Counts, PublicFile
from recsys_lab.data.reading.source import PublicSource, RawTables
from recsys_lab.data.reading.table_checks import canonical
from recsys_lab.words import TIMESTAMP, RecsysLabError

FILE = "train-item-views.csv"
COLUMNS = Columns(user="sessionId", item="itemId")


def parse(files: Mapping[str, Path]) -> RawTables:
    path = files[FILE]
    table = open_table([path], "csv", separator=";")
    chosen = COLUMNS.resolve(table.columns, str(path))
    if not {"timeframe", "eventdate"} <= set(table.columns):
        raise RecsysLabError(f"{path} lacks the columns timeframe and eventdate; it has: {', '.join(table.columns)}")
    raw = table.scan([*chosen.values(), "timeframe", "eventdate"])
    day = pl.col("eventdate").str.to_datetime("%Y-%m-%d", strict=False, time_unit="ms").dt.epoch("ms")
    time = (day + pl.col("timeframe").cast(pl.Int64, strict=False)) / 1000
    try:
        timed = raw.with_columns(time.alias(TIMESTAMP))
        return RawTables(canonical(timed, {**chosen, TIMESTAMP: TIMESTAMP}, str(path)))
    except pl.exceptions.PolarsError as error:
        raise RecsysLabError(f"{path} can't be read: {str(error).splitlines()[0]}") from error


SOURCES = [
    PublicSource(
        name="diginetica",
        licence="Diginetica, CIKM Cup 2016: research use, no formal licence",
        homepage="https://competitions.codalab.org/competitions/11161",
        citation="CIKM Cup 2016 Track 2: Personalized E-Commerce Search Challenge",
        files=(PublicFile(FILE),),
        parse=parse,
        counts=Counts(events=1_235_380, users=310_324, items=122_993),
        instructions=(
            "Open https://competitions.codalab.org/competitions/11161 (data behind its 'Participate' tab), download "
            "dataset-train-diginetica.zip and unpack it."
        ),
        settings={"min_user_events": 2, "min_item_events": 5},
    )
]
