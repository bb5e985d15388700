"""The generic reader: a user's own file as a source."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import polars as pl

from recsys_lab.data.digests import Digests
from recsys_lab.data.sources.base import RawTables, Source
from recsys_lab.data.sources.checks import canonical
from recsys_lab.data.sources.columns import Columns
from recsys_lab.data.sources.formats import Format, format_of, open_table
from recsys_lab.schema import ITEM_ID, RecsysLabError

log = logging.getLogger(__name__)


def read_interactions(
    paths: list[Path], format: str, columns: Columns, separator: str | None = None, names: tuple[str, ...] = ()
) -> pl.LazyFrame:
    """Files of one table -> checked canonical interactions (see `RawTables`), lazy.

    Raises:
        RecsysLabError: for everything that is wrong with the file, naming it and the fix.
    """
    where = str(paths[0])
    try:
        table = open_table(paths, format, separator, names)
        chosen = columns.resolve(table.columns, where)
        return canonical(table.scan(list(chosen.values())), chosen, where)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise _unreadable(where, format, error) from error


def read_items(paths: list[Path], key: str, dtype: pl.DataType) -> pl.LazyFrame:
    """An item table with its id column `key` as `item_id` of the type that the interactions have.

    Raises:
        RecsysLabError: when there is no such column, listing those found.
    """
    where, format = str(paths[0]), format_of(str(paths[0]))
    try:
        found = open_table(paths, format).columns
        if key not in found:
            raise RecsysLabError(f"{where} has no column {key!r} with the item id; it has: {', '.join(found)}")
        if format == "parquet":
            table = pl.scan_parquet(paths)
        elif format == "jsonl":
            table = pl.scan_ndjson(paths, schema_overrides={key: pl.String})
        else:
            separator = "," if format == "csv" else "\t"
            header = pl.scan_csv(paths, separator=separator, infer_schema=False).collect_schema().names()
            plain = {name: name.partition(":")[0] if format == "inter" else name for name in header}
            text = {name: pl.String for name in header if plain[name] == key}  # "007" is not 7
            table = pl.scan_csv(paths, separator=separator, schema_overrides=text, infer_schema_length=10_000)
            table = table.rename(plain)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise _unreadable(where, format, error) from error
    # an id that isn't of the interactions' type can't be in them: its row is of no use
    return table.rename({key: ITEM_ID}).with_columns(pl.col(ITEM_ID).cast(dtype, strict=False)).drop_nulls(ITEM_ID)


def _unreadable(where: str, format: str, error: Exception) -> RecsysLabError:
    return RecsysLabError(f"{where} can't be read as {format}: {str(error).splitlines()[0]}")


@dataclass(frozen=True)
class FileSource(Source):
    """Interactions in the user's own file or files.

    Args:
        path: a local file, a folder or glob of files of one format, or any address that fsspec knows (`https://`,
            `s3://`, `memory://`, ...), which is copied into the raw folder first.
        columns: which column means what. Not used for `pairs` and `sequences`, which have only users and items.
        items: a file with one row per item and the item id in the column named as `columns.item`, for features.
        format: `csv`, `tsv`, `jsonl`, `parquet`, `inter` (RecBole: tab-separated, header `user_id:token`), `pairs`
            (SASRec: `user item` per line) or `sequences` (S3Rec: `user item item ...` per line); the last two in the
            order of time. None = by the file name. All but parquet may be gzipped.
        separator: of csv or tsv fields, if not comma or tab; may be several characters (MovieLens: `::`).
        names: the columns of a csv or tsv file without a header line.
        name: of the data set; default: the file name without its endings.
    """

    path: str | Path
    columns: Columns = Columns()
    items: str | Path | None = None
    format: Format | None = None
    separator: str | None = None
    names: tuple[str, ...] = ()
    name: str = ""

    licence = "your own data"
    homepage = ""
    citation = ""

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", Path(str(self.path).rstrip("/")).name.split(".")[0].strip("*") or "files")
        object.__setattr__(self, "names", tuple(self.names))  # a list, if it comes from YAML

    @property
    def urls(self) -> tuple[str, ...]:
        return (str(self.path),) if _is_remote(self.path) else ()

    @property
    def checked_by(self) -> str:
        return "columns, ids and timestamps"

    @property
    def has_timestamps(self) -> bool:
        """Whether a time column is named. A file may also have one that is called `timestamp`: `tables` shows."""
        return self.columns.timestamp is not None

    def tables(self, raw_dir: Path) -> RawTables:
        paths = self._local(self.path, raw_dir)
        format = self.format or format_of(str(paths[0]))
        interactions = read_interactions(paths, format, self.columns, self.separator, self.names)
        if self.items is None:
            return RawTables(interactions)
        dtype = interactions.collect_schema()[ITEM_ID]
        return RawTables(
            interactions, read_items(self._local(self.items, raw_dir), self.columns.item or ITEM_ID, dtype)
        )

    def fingerprint(self, raw_dir: Path) -> str:
        paths = self._local(self.path, raw_dir)
        if self.items is not None:
            paths = [*paths, *self._local(self.items, raw_dir)]
        # the mapping counts as data: another time column makes another set
        meaning = [asdict(self.columns), self.format, self.separator, self.names]
        lines = [json.dumps(meaning, sort_keys=True), *map(Digests(raw_dir).of, paths)]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def _local(self, path: str | Path, raw_dir: Path) -> list[Path]:
        if _is_remote(path):
            return [fetch_remote(str(path), raw_dir / self.name)]
        local = Path(str(path).removeprefix("file://")).expanduser()
        if local.is_dir():
            found = sorted(p for p in local.iterdir() if p.is_file() and not p.name.startswith((".", "_")))
        elif any(c in local.name for c in "*?["):
            found = sorted(local.parent.glob(local.name))
        else:
            found = [local] if local.is_file() else []
        if not found:
            raise RecsysLabError(f"there is no file {local} (looked in {Path.cwd()})")
        return found


def _is_remote(path: str | Path) -> bool:
    return "://" in str(path) and not str(path).startswith("file://")


def fetch_remote(url: str, folder: Path) -> Path:
    """A local copy of any fsspec address; fetched again when its size, tag or date at the source changed.

    Raises:
        RecsysLabError: when it can't be had and there is no earlier copy.
    """
    import fsspec

    name = url.split("?")[0].rstrip("/").rpartition("/")[2]
    copy = folder / hashlib.sha256(url.encode()).hexdigest()[:8] / name
    note = copy.with_name(copy.name + ".version")
    try:
        files, remote = fsspec.core.url_to_fs(url)
        version = json.dumps(files.info(remote), sort_keys=True, default=str)
        if copy.exists() and note.exists() and note.read_text() == version:
            return copy
        copy.parent.mkdir(parents=True, exist_ok=True)
        part = copy.with_name(copy.name + ".part")
        files.get_file(remote, str(part))
        os.replace(part, copy)
        note.write_text(version)
    except (OSError, ImportError, ValueError) as error:
        if copy.exists():
            log.warning("%s can't be reached (%s); the copy from before is used: %s", url, error, copy)
            return copy
        raise RecsysLabError(f"{url} can't be read: {error or type(error).__name__}") from error
    return copy
