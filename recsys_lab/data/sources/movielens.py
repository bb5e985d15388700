"""MovieLens-1M and 20M from GroupLens.

Harper, Konstan: The MovieLens Datasets: History and Context, ACM TiiS 5(4), 2015.
(MovieLens-100K has a second way to get it and so a file of its own.)
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from recsys_lab.data.reading.columns import Columns
from recsys_lab.data.reading.file_source import read_interactions
from recsys_lab.data.reading.raw_files import Counts, PublicFile
from recsys_lab.data.reading.source import PublicSource, RawTables
from recsys_lab.words import ITEM_ID, RATING, TIMESTAMP, USER_ID

LICENCE = "GroupLens: research use only, no redistribution, cite the authors"
CITATION = "Harper, Konstan: The MovieLens Datasets: History and Context, ACM TiiS 5(4), 2015"
AGES = {1: "under 18", 18: "18-24", 25: "25-34", 35: "35-44", 45: "45-49", 50: "50-55", 56: "56+"}


def parse_1m(files: Mapping[str, Path]) -> RawTables:
    """Fields are separated by `::`, text is Latin-1, there is no header."""
    interactions = read_interactions(
        [files["ratings.dat"]], "csv", Columns(), separator="::", names=(USER_ID, ITEM_ID, RATING, TIMESTAMP)
    )
    items = users = None
    if "movies.dat" in files:
        rows = _double_colon(files["movies.dat"])
        titled = pl.LazyFrame({ITEM_ID: [int(r[0]) for r in rows], "title": [r[1] for r in rows]})
        genres = pl.Series("genres", [r[2].split("|") for r in rows], dtype=pl.List(pl.String))
        items = _split_year(titled.with_columns(genres))
    if "users.dat" in files:
        rows = _double_colon(files["users.dat"])
        users = pl.LazyFrame(
            {
                USER_ID: [int(r[0]) for r in rows],
                "gender": [r[1] for r in rows],
                "age": [AGES.get(int(r[2]), r[2]) for r in rows],
                "occupation": [r[3] for r in rows],  # a code of 0 to 20, explained in the README of the set
                "zip_code": [r[4] for r in rows],
            }
        )
    return RawTables(interactions, items, users)


def parse_20m(files: Mapping[str, Path]) -> RawTables:
    """Ordinary CSV with a header."""
    columns = Columns(user="userId", item="movieId", rating="rating", timestamp="timestamp")
    interactions = read_interactions([files["ratings.csv"]], "csv", columns)
    if "movies.csv" not in files:
        return RawTables(interactions)
    table = pl.scan_csv(files["movies.csv"], infer_schema=False)
    titled = table.select(
        pl.col("movieId").cast(pl.Int64).alias(ITEM_ID), "title", pl.col("genres").str.split("|").alias("genres")
    )
    return RawTables(interactions, _split_year(titled))


def _double_colon(path: Path) -> list[list[str]]:
    return [line.split("::") for line in path.read_text(encoding="latin-1").splitlines() if line]


def _split_year(titled: pl.LazyFrame) -> pl.LazyFrame:
    """`Toy Story (1995)` -> title and release_year."""
    year = pl.col("title").str.extract(r"\((\d{4})\)\s*$").cast(pl.Int32)
    title = pl.col("title").str.replace(r"\s*\(\d{4}\)\s*$", "")
    return titled.select(ITEM_ID, title, year.alias("release_year"), "genres")


SOURCES = [
    PublicSource(
        name="ml-1m",
        licence=LICENCE,
        homepage="https://grouplens.org/datasets/movielens/1m/",
        citation=CITATION,
        files=(
            PublicFile("ratings.dat"),
            PublicFile("movies.dat", optional=True),
            PublicFile("users.dat", optional=True),
        ),
        archive=PublicFile(
            "ml-1m.zip",
            ("https://files.grouplens.org/datasets/movielens/ml-1m.zip",),
            "md5:c4d9eecfca2ab87c1945afe126590906",  # from GroupLens' own ml-1m.zip.md5
        ),
        parse=parse_1m,
        counts=Counts(events=1_000_209, users=6_040, items=3_706),
    ),
    PublicSource(
        name="ml-20m",
        licence=LICENCE,
        homepage="https://grouplens.org/datasets/movielens/20m/",
        citation=CITATION,
        files=(PublicFile("ratings.csv"), PublicFile("movies.csv", optional=True)),
        archive=PublicFile(
            "ml-20m.zip",
            ("https://files.grouplens.org/datasets/movielens/ml-20m.zip",),
            "md5:cd245b17a1ae2cc31bb14903e1204af3",  # from GroupLens' own ml-20m.zip.md5
        ),
        parse=parse_20m,
        counts=Counts(events=20_000_263, users=138_493, items=26_744),
    ),
]
