"""Online Retail II: invoice lines of a British gift wholesaler over two years, with price, quantity and product text.

Chen, Sain, Guo: Data mining for the online retail industry, 2012 (UCI machine learning repository, set 502). It is
published as a spreadsheet: save its two sheets as one CSV file, or take the CSV file that Kaggle has. Lines without a
customer are left out; invoices whose number begins with C are cancellations.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from recsys_lab.data.reading.columns import Columns
from recsys_lab.data.reading.file_source import read_parts
from recsys_lab.data.reading.parts import Part
from recsys_lab.data.reading.raw_files import Counts, PublicFile
from recsys_lab.data.reading.source import PublicSource, RawTables
from recsys_lab.data.reading.table_checks import Rules
from recsys_lab.words import EVENT_TYPE, ITEM_ID

FILE = "online_retail_II.csv"
COLUMNS = Columns(user="Customer ID", item="StockCode", timestamp="InvoiceDate")


def parse(files: Mapping[str, Path]) -> RawTables:
    read = read_parts([Part(files[FILE])], "csv", COLUMNS, rules=Rules(missing_ids="drop"))
    names = {"Invoice": "basket_id", "Quantity": "quantity", "Price": "price", "Country": "country"}
    is_cancelled = pl.col("Invoice").cast(pl.String).str.starts_with("C")
    kind = pl.when(is_cancelled).then(pl.lit("cancel")).otherwise(pl.lit("purchase"))
    events = read.events.with_columns(kind.alias(EVENT_TYPE)).rename(names)
    items = events.group_by(ITEM_ID).agg(pl.col("Description").drop_nulls().first().alias("title"))
    return RawTables(events.drop("Description"), items, left_out=read.left_out)


SOURCES = [
    PublicSource(
        name="online-retail",
        licence="UCI, D. Chen: CC BY 4.0",
        homepage="https://archive.ics.uci.edu/dataset/502/online+retail+ii",
        citation="Chen, Sain, Guo: Data mining for the online retail industry, J. of Database Marketing 19, 2012",
        files=(PublicFile(FILE),),
        parse=parse,
        counts=Counts(events=824_364),
        instructions=(
            "Open https://archive.ics.uci.edu/dataset/502/online+retail+ii, download the spreadsheet and save its two "
            f"sheets, one below the other under one header, as {FILE}."
        ),
        settings={"event_types": ["purchase"], "min_user_events": 5, "min_item_events": 5},
    )
]
