"""MovieLens-100K, and the same table from a Python package index where GroupLens can't be reached.

Harper, Konstan: The MovieLens Datasets: History and Context, ACM TiiS 5(4), 2015.

The wheel recbole 1.2.1 carries the ratings as `ml-100k.inter`. Its rows are those of GroupLens' `u.data` in the same
order: without the header line it is the same file, byte for byte. So one sha256 of the parsed table holds for both,
and events with equal timestamps have the same order whichever way they came.
"""

from __future__ import annotations

import hashlib
import logging
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import polars as pl

from recsys_lab.data.reading.columns import Columns
from recsys_lab.data.reading.download import ChecksumError, DownloadError
from recsys_lab.data.reading.file_source import read_interactions
from recsys_lab.data.reading.raw_files import Counts, PublicFile, extract, find_local
from recsys_lab.data.reading.source import PublicSource, RawTables
from recsys_lab.words import ITEM_ID, RATING, TIMESTAMP, USER_ID, RecsysLabError

log = logging.getLogger(__name__)

WHEEL = "recbole==1.2.1"
WHEEL_FILES = [PublicFile("ml-100k.inter"), PublicFile("ml-100k.item"), PublicFile("ml-100k.user")]
PIP_SECONDS = 120
TABLE_SHA256 = "06416e597f82b7342361e41163890c81036900f418ad91315590814211dca490"
"""Of the rows `user\\titem\\trating\\ttimestamp\\n` in file order, which is also that of GroupLens' u.data."""
RATINGS = (USER_ID, ITEM_ID, RATING, TIMESTAMP)
GENRES = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)  # fmt: skip


def parse(files: Mapping[str, Path]) -> RawTables:
    """Ratings, checked; genres, title and year of the films; age, gender, occupation of the users."""
    if "u.data" in files:
        interactions = read_interactions([files["u.data"]], "tsv", Columns(), names=RATINGS)
        items = _u_item(files["u.item"]) if "u.item" in files else None
        users = _users(files["u.user"], "|", False) if "u.user" in files else None
        path = files["u.data"]
    else:
        path = files["ml-100k.inter"]
        interactions = read_interactions([path], "inter", Columns())
        items = _wheel_items(files["ml-100k.item"]) if "ml-100k.item" in files else None
        users = _users(files["ml-100k.user"], "\t", True) if "ml-100k.user" in files else None
    check_table(interactions, path)
    return RawTables(interactions, items, users)


def check_table(interactions: pl.LazyFrame, path: Path, sha256: str | None = None) -> None:
    """Compare the parsed rows with the published ones.

    Raises:
        ChecksumError: naming the file and both sums.
    """
    sha256 = sha256 or TABLE_SHA256
    rows = interactions.select(*(pl.col(c).cast(pl.Int64) for c in RATINGS)).collect()
    found = hashlib.sha256(rows.write_csv(separator="\t", include_header=False).encode()).hexdigest()
    if found != sha256:
        raise ChecksumError(
            f"{path} is not the published MovieLens-100K: sha256 of its rows is {found}, expected {sha256}. "
            "Remove it (it is then fetched again) or put the right file there"
        )


def _u_item(path: Path) -> pl.LazyFrame:
    rows = [line.split("|") for line in path.read_text(encoding="latin-1").splitlines() if line]
    titled = pl.LazyFrame(
        {
            ITEM_ID: [int(r[0]) for r in rows],
            "title": [r[1] for r in rows],
            "genres": [[g for g, flag in zip(GENRES, r[5:], strict=False) if flag == "1"] for r in rows],
        },
        schema_overrides={"genres": pl.List(pl.String)},
    )
    year = pl.col("title").str.extract(r"\((\d{4})\)\s*$").cast(pl.Int32)
    title = pl.col("title").str.replace(r"\s*\(\d{4}\)\s*$", "")
    return titled.select(ITEM_ID, title, year.alias("release_year"), "genres")


def _wheel_items(path: Path) -> pl.LazyFrame:
    rows = pl.scan_csv(path, separator="\t", quote_char=None, infer_schema=False)
    return rows.select(
        pl.col("item_id:token").cast(pl.Int64).alias(ITEM_ID),
        pl.col("movie_title:token_seq").alias("title"),
        pl.col("release_year:token").cast(pl.Int32, strict=False).alias("release_year"),
        pl.col("class:token_seq").str.split(" ").alias("genres"),
    )


def _users(path: Path, separator: str, has_header: bool) -> pl.LazyFrame:
    rows = pl.scan_csv(path, separator=separator, has_header=has_header, quote_char=None, infer_schema=False)
    names = [USER_ID, "age", "gender", "occupation", "zip_code"]
    rows = rows.rename(dict(zip(rows.collect_schema().names(), names, strict=True)))
    return rows.with_columns(pl.col(USER_ID, "age").cast(pl.Int64))


class MovieLens100K(PublicSource):
    """GroupLens first, a package index second."""

    @property
    def checked_by(self) -> str:
        return f"sha256 of the parsed table, {super().checked_by}"

    def locate(self, raw_dir: Path) -> dict[str, Path]:
        folder = raw_dir / self.name
        if find_local(folder, "u.data") is None and find_local(folder, "ml-100k.inter") is not None:
            found = {f.name: find_local(folder, f.name) for f in WHEEL_FILES}
            return {name: path for name, path in found.items() if path is not None}
        try:
            return super().locate(raw_dir)
        except DownloadError as error:
            if find_local(folder, "ml-100k.zip") is not None:  # the user's own file is wrong: say so, don't go round it
                raise
            log.info("%s\nTaking the same table from the package %s instead", error, WHEEL)
            try:
                return fetch_wheel(folder)
            except DownloadError as second:
                raise DownloadError(f"{error}\n{second}") from second


def fetch_wheel(folder: Path) -> dict[str, Path]:
    """Ask pip, with whatever index the user has configured, for the wheel; only its data files are taken from it.

    Raises:
        DownloadError: when pip is absent, does not get it, or takes too long.
    """
    command = [
        sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-input", "--quiet",
        "--disable-pip-version-check", "--timeout", "10", "--retries", "1", WHEEL,
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as temporary:
        try:
            done = subprocess.run(
                [*command, "-d", temporary], capture_output=True, text=True, timeout=PIP_SECONDS, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise DownloadError(f"pip could not fetch {WHEEL}: {error}") from error
        wheels = sorted(Path(temporary).glob("*.whl"))
        if done.returncode or not wheels:
            last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise DownloadError(f"pip could not fetch {WHEEL} either: {last}")
        folder.mkdir(parents=True, exist_ok=True)
        try:
            return extract(wheels[0], folder, WHEEL_FILES)
        except RecsysLabError as error:
            raise DownloadError(f"{WHEEL} is not what it should be: {error}") from error


SOURCES = [
    MovieLens100K(
        name="ml-100k",
        licence="GroupLens: research use only, no redistribution, cite the authors",
        homepage="https://grouplens.org/datasets/movielens/100k/",
        citation="Harper, Konstan: The MovieLens Datasets: History and Context, ACM TiiS 5(4), 2015",
        # u.data has no checksum here: `parse` compares the parsed table, whichever way it came
        files=(PublicFile("u.data"), PublicFile("u.item", optional=True), PublicFile("u.user", optional=True)),
        archive=PublicFile(
            "ml-100k.zip",
            ("https://files.grouplens.org/datasets/movielens/ml-100k.zip",),
            "md5:0e33842e24a9c977be4e0107933c0723",  # from GroupLens' own ml-100k.zip.md5
        ),
        parse=parse,
        counts=Counts(events=100_000, users=943, items=1_682),
    )
]
