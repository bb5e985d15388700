"""The files behind one path: a file, a folder with folders in it (Hive, Spark), or a glob."""

from __future__ import annotations

import glob
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

import polars as pl

from recsys_lab.data.reading.formats import SUFFIXES, bare_name, has_content
from recsys_lab.data.reading.spelling import option
from recsys_lab.words import RecsysLabError

log = logging.getLogger(__name__)

HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"
WILD = frozenset("*?[")


@dataclass(frozen=True)
class Part:
    """One file, and the columns that its folders name (`date=2020-09-13`)."""

    path: Path
    partition: dict[str, str | None] = field(default_factory=dict)


PIECE_ROWS = 1 << 21
"""Rows of a Parquet file that one task reads: so many are held in memory (`table_checks.SMALL_ROWS`)."""


@dataclass(frozen=True)
class Piece:
    """What one task reads of a log: a file by its number among the parts, or rows of it.

    Attributes:
        file: number of the part.
        start: the first row.
        length: rows; None = all.
    """

    file: int
    start: int = 0
    length: int | None = None

    def of(self, frame: pl.LazyFrame, schema: pl.Schema) -> pl.LazyFrame:
        """These rows of the file, with the types that all files together have."""
        return frame.cast(schema).slice(self.start, self.length)


def pieces_of(parts: Sequence[Part], format: str) -> list[Piece]:
    """All rows of all files, once. A text file is one piece: only its reader knows where rows begin."""
    found = []
    for number, part in enumerate(parts):
        if not has_content(part.path, format):
            continue
        if format != "parquet":
            found.append(Piece(number))
            continue
        rows = pl.scan_parquet(part.path, glob=False).select(pl.len()).collect().item()
        found += [Piece(number, start, PIECE_ROWS) for start in range(0, rows, PIECE_ROWS)]
    return found or [Piece(0)]


def find_parts(path: str | Path) -> list[Part]:
    """The files of `path`, sorted. Names that begin with `.` or `_` are not data (`_SUCCESS`, `.part-0.crc`).

    Raises:
        RecsysLabError: when there is none, when a folder is a Delta table, when files of several kinds are mixed, and
            for links that lead nowhere.
    """
    if not str(path).strip():
        raise RecsysLabError(f"{option('input')} is empty; give a file, a folder or an address")
    local = Path(str(path).removeprefix("file://")).expanduser()
    if local.is_file():
        return [Part(local)]
    if local.is_dir():
        root, found = local, list(_files_below(local))
        if not found:
            raise RecsysLabError(f"the folder {local} holds no file to read")
    else:
        fixed = [part for part in local.parts[: _first_wild(local)]]
        root = Path(*fixed) if fixed else Path()
        matches = sorted(Path(name) for name in glob.glob(str(local), recursive=True)) if _is_wild(local) else []
        found = [file for match in matches for file in ([match] if match.is_file() else _files_below(match))]
        if not found:
            _leads_somewhere(local)
            if local.exists():
                raise RecsysLabError(f"{local} can't be read twice, as a file can: write the data to one and name that")
            raise RecsysLabError(f"there is no file {local} (looked in {Path.cwd()})")
    found = _each_once(found)
    _one_kind(found, local)
    return [Part(file, _partition(file, root)) for file in found]


def _leads_somewhere(path: Path) -> None:
    if path.is_symlink() and not path.exists():
        raise RecsysLabError(f"{path} is a link to {path.readlink()}, where there is nothing to read")


def _each_once(files: list[Path]) -> list[Path]:
    """A file that a second name leads to is read once, which is said."""
    found: dict[Path, Path] = {}
    for file in files:
        first = found.setdefault(file.resolve(), file)
        if first != file:
            log.warning("%s is the same file as %s: read once", file, first)
    return list(found.values())


def _files_below(folder: Path, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """In the order of their names; folders first come, first gone down. A link back to a folder above is left out."""
    above = (*above, folder.resolve())
    for entry in sorted(folder.iterdir()):
        if entry.name == "_delta_log":
            raise RecsysLabError(
                f"{folder} is a Delta table: which of its files are valid stands in its log. Write it as plain Parquet "
                "and read that"
            )
        if entry.name.startswith((".", "_")):
            continue
        _leads_somewhere(entry)
        if entry.is_dir() and entry.resolve() in above:
            log.warning("%s leads back to a folder that is read already: left out", entry)
        elif entry.is_dir():
            yield from _files_below(entry, above)
        elif entry.is_file():
            yield entry


def _one_kind(files: list[Path], local: Path) -> None:
    kinds: dict[str, Path] = {}
    for file in files:
        kinds.setdefault(_ending(file), file)
    if len(kinds) > 1:
        names = " and ".join(file.name for file in list(kinds.values())[:2])
        ending = next((kind for kind in kinds if kind in SUFFIXES), "*")
        raise RecsysLabError(
            f"{local} holds files of several kinds, such as {names}: name those to read, for example "
            f"{option('input', f'{local}/*{ending}')}"
        )


def _ending(file: Path) -> str:
    """`.csv` of `part-0.c000.csv.gz`; files without a known ending are one kind."""
    suffix = Path(bare_name(file.name)).suffix
    return suffix if suffix in SUFFIXES or suffix in (".md", ".txt", ".avro", ".orc", ".json") else ""


def _partition(file: Path, root: Path) -> dict[str, str | None]:
    pairs: dict[str, str | None] = {}
    for part in file.parent.parts[len(root.parts) :]:
        key, equals, value = part.partition("=")
        if equals and key:
            pairs[unquote(key)] = None if value == HIVE_NULL else unquote(value)
    return pairs


def _is_wild(path: Path) -> bool:
    return any(c in WILD for c in str(path))


def _first_wild(path: Path) -> int:
    return next((n for n, part in enumerate(path.parts) if WILD & set(part)), len(path.parts))
