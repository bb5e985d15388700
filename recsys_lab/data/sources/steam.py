"""Steam reviews (version 2), as used by SASRec and others; the set is usually cut to its 5-core, as here by default.

Kang, McAuley: Self-Attentive Sequential Recommendation, ICDM 2018.

The lines are Python literals, not JSON, so they are parsed once (minutes) and kept beside the file as Parquet.
A user is a display name: two people may share one. Times are days.
"""

from __future__ import annotations

import ast
import gzip
import io
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import polars as pl

from recsys_lab.data.reading.columns import Columns
from recsys_lab.data.reading.file_source import read_interactions
from recsys_lab.data.reading.formats import is_gzip
from recsys_lab.data.reading.raw_files import Counts, PublicFile
from recsys_lab.data.reading.source import PublicSource, RawTables
from recsys_lab.words import RecsysLabError

FILE = "steam_reviews.json.gz"
ROWS = 200_000  # lines per chunk: what is held as Python objects at once


def parse(files: Mapping[str, Path]) -> RawTables:
    path = files[FILE]
    cache = path.with_name("steam_reviews.parquet")
    if not cache.exists() or cache.stat().st_mtime < path.stat().st_mtime:
        part = cache.with_name(cache.name + ".part")
        try:
            pl.concat(_chunks(path)).write_parquet(part)
        except (OSError, EOFError, UnicodeDecodeError) as error:
            raise RecsysLabError(f"{path} can't be unpacked into {part}: {error}") from error
        os.replace(part, cache)
    columns = Columns(user="username", item="product_id", timestamp="date")
    return RawTables(read_interactions([cache], "parquet", columns))


def _chunks(path: Path) -> Iterator[pl.DataFrame]:
    from tqdm import tqdm

    schema = {"username": pl.String, "product_id": pl.String, "date": pl.String}
    with path.open("rb") as raw:
        packed = gzip.GzipFile(fileobj=raw) if is_gzip(path) else raw
        lines = io.TextIOWrapper(packed, encoding="utf-8")
        size = path.stat().st_size
        rows: list[tuple[str, ...]] = []
        with tqdm(total=size, unit="B", unit_scale=True, desc=f"parsing {path.name}", disable=None) as bar:
            for number, line in enumerate(lines, start=1):
                try:
                    record = ast.literal_eval(line)
                    rows.append(tuple(str(record[key]) for key in schema))
                except (ValueError, SyntaxError, KeyError, TypeError) as error:
                    raise RecsysLabError(
                        f"{path}: line {number} is not a review (a Python dict with {', '.join(schema)}): {line[:80]!r}"
                    ) from error
                if len(rows) == ROWS:
                    yield pl.DataFrame(rows, schema=schema, orient="row")
                    rows = []
                    bar.update(raw.tell() - bar.n)
            bar.update(size - bar.n)
        yield pl.DataFrame(rows, schema=schema, orient="row")


SOURCES = [
    PublicSource(
        name="steam",
        licence="Steam reviews (McAuley lab): research use, no formal licence, cite the authors",
        homepage="https://cseweb.ucsd.edu/~jmcauley/datasets.html#steam_data",
        citation="Kang, McAuley: Self-Attentive Sequential Recommendation, ICDM 2018",
        files=(
            PublicFile(
                FILE,
                (
                    "https://cseweb.ucsd.edu/~wckang/steam_reviews.json.gz",
                    "https://mcauleylab.ucsd.edu/public_datasets/data/steam/steam_reviews.json.gz",
                ),
                # not the publisher's: the loader of OmniRec (University of Siegen) states it for the first address
                "sha256:40c6343deedf488689987749c5f8435233da48c163fbaa2a7766c215d584bc61",
            ),
        ),
        parse=parse,
        counts=Counts(events=7_793_069, users=2_567_538, items=15_474),
        settings={"min_user_events": 5, "min_item_events": 5},
    )
]
