"""Files of a publisher on disk: found, checked, unpacked."""

from __future__ import annotations

import gzip
import hashlib
import logging
import shutil
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from recsys_lab.data.reading.digests import Digests
from recsys_lab.data.reading.download import ChecksumError
from recsys_lab.words import ITEM_ID, USER_ID, RecsysLabError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Counts:
    """Published size of a data set. None = not published."""

    events: int
    users: int | None = None
    items: int | None = None


@dataclass(frozen=True)
class PublicFile:
    """One file as its publisher names it, or a file inside the publisher's archive."""

    name: str
    urls: tuple[str, ...] = ()
    checksum: str | None = None  # "sha256:<hex>" or "md5:<hex>" of the file as it is published
    optional: bool = False  # features: the set can be used without


def find_local(folder: Path, name: str) -> Path | None:
    """`name` in `folder` or in a folder just below it (an unpacked archive), as published, gzipped or unpacked."""
    names = [name, name.removesuffix(".gz") if name.endswith(".gz") else f"{name}.gz"]
    places = [folder, *sorted(p for p in folder.glob("*") if p.is_dir())]
    return next((place / n for n in names for place in places if (place / n).is_file()), None)


def verify(path: Path, name: str, checksum: str, digests: Digests) -> None:
    """Compare a file on disk with the checksum of the published file `name`; a gzipped copy is unpacked for it.

    `digests` remembers what was read before.

    Raises:
        ChecksumError: naming the file, both sums, and what to do.
    """
    algorithm, _, expected = checksum.partition(":")
    if path.name == name:
        found = digests.of(path, algorithm)
    elif path.name == f"{name}.gz":
        try:
            found = digests.of(path, algorithm, unpacked_digest)
        except (OSError, EOFError, zlib.error) as error:
            raise ChecksumError(f"{path} can't be unpacked ({error}); remove it or put the right file there") from error
    else:  # the unpacked form of a file published packed: its checksum is of other bytes
        log.info("%s is unpacked, so the published checksum of %s can't be compared", path, name)
        return
    if found != expected:
        raise ChecksumError(
            f"{path} is not the published {name}: its {algorithm} is {found}, expected {expected}. "
            "Remove it (it is then fetched again) or put the right file there"
        )


def unpacked_digest(path: Path, algorithm: str) -> str:
    """Hex digest of what a gzipped file holds."""
    with gzip.open(path, "rb") as handle:
        return hashlib.file_digest(handle, algorithm).hexdigest()


def extract(archive: Path, folder: Path, files: list[PublicFile]) -> dict[str, Path]:
    """Unpack `files` (found by their base name) from a zip into `folder`; a broken run leaves no half file."""
    try:
        with zipfile.ZipFile(archive) as packed:
            members = {Path(name).name: name for name in packed.namelist()}
            absent = [f.name for f in files if f.name not in members and not f.optional]
            if absent:
                raise RecsysLabError(
                    f"{archive} holds no {', '.join(absent)}; it holds {', '.join(sorted(members)[:20])}"
                )
            found = {}
            for name in (f.name for f in files if f.name in members):
                part = folder / f"{name}.part"
                with packed.open(members[name]) as source, part.open("wb") as out:
                    shutil.copyfileobj(source, out)
                found[name] = part.replace(folder / name)
            return found
    except zipfile.BadZipFile as error:
        raise RecsysLabError(f"{archive} is not a readable zip file ({error}); remove it and try again") from error


def combined_digest(files: Mapping[str, Path], digests: Digests) -> str:
    """One sha256 over several files, whatever their order and wherever they lie."""
    lines = sorted(f"{name} {digests.of(path)}" for name, path in files.items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def check_counts(interactions: pl.LazyFrame, counts: Counts, name: str, folder: Path) -> None:
    """Compare users, items and events with the published numbers.

    Raises:
        RecsysLabError: naming what differs.
    """
    wanted = {"events": (pl.len(), counts.events)}
    if counts.users is not None:
        wanted["users"] = (pl.col(USER_ID).n_unique(), counts.users)
    if counts.items is not None:
        wanted["items"] = (pl.col(ITEM_ID).n_unique(), counts.items)
    row = interactions.select(**{k: expr for k, (expr, _) in wanted.items()}).collect().row(0, named=True)
    wrong = [f"{row[k]:,} {k} instead of {number:,}" for k, (_, number) in wanted.items() if row[k] != number]
    if wrong:
        raise RecsysLabError(
            f"{name}: {', '.join(wrong)}, so the files in {folder} are not the published ones; remove them to fetch "
            "them again, or read them as your own data with `recsys-lab prepare --input`"
        )
