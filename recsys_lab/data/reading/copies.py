"""Files that polars can't scan as they are (other encodings, bz2, xz, zip, JSON arrays, ...) -> a copy that it can.

The copy lies in the raw folder and is made again when the file changes. A good file is never copied.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import lzma
import os
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import polars as pl

from recsys_lab.data.reading.digests import file_state
from recsys_lab.data.reading.spelling import option
from recsys_lab.words import RecsysLabError

BOM = b"\xef\xbb\xbf"
CHUNK = 1 << 20
MAGIC = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bz2",
    b"\xfd7zXZ\x00": "xz",
    b"PK\x03\x04": "zip",
    b"PK\x05\x06": "zip",
    b"\x28\xb5\x2f\xfd": "zst",
}
FOREIGN = {
    b"7z\xbc\xaf\x27\x1c": ("a 7z archive", "unpack it first"),
    b"Rar!": ("a RAR archive", "unpack it first"),
    b"\xd0\xcf\x11\xe0": ("an Excel file", "save it as CSV first"),
    b"SQLite format 3": ("an SQLite database", "export the table as CSV first"),
    b"\x89HDF": ("an HDF5 file", "write it as Parquet first"),
    b"ORC": ("an ORC file", "write it as Parquet first"),
    b"Obj\x01": ("an Avro file", "write it as Parquet first"),
    b"%PDF": ("a PDF file", "export the table as CSV first"),
    b"ARROW1": ("an Arrow file", "write it as Parquet first"),
    b"FEA1": ("a Feather file", "write it as Parquet first"),
    b"\x80\x04\x95": ("a Python pickle", "write it as Parquet first"),
    b"\x80\x05\x95": ("a Python pickle", "write it as Parquet first"),
    b"<!doctype": ("a web page", "the address gave no data; get the file itself"),
    b"<html": ("a web page", "the address gave no data; get the file itself"),
    b"<?xml": ("an XML file", "write it as CSV first"),
    b"version https://git-lfs": ("a pointer of Git LFS", "get the file itself (git lfs pull)"),
}


def packing_of(path: Path) -> str:
    """gzip, bz2, xz, zip, zst, or "" for a file that is not packed; told by its first bytes."""
    with path.open("rb") as handle:
        start = handle.read(8)
    return next((name for magic, name in MAGIC.items() if start.startswith(magic)), "")


@contextmanager
def open_bytes(path: Path) -> Iterator[IO[bytes]]:
    """The unpacked bytes of a file.

    Raises:
        RecsysLabError: for a packed file that is cut, or an archive with more than one file.
    """
    kind = packing_of(path)
    try:
        if kind == "zip":
            with zipfile.ZipFile(path) as archive, archive.open(_only_member(path, archive)) as handle:
                yield handle
        elif kind == "zst":
            raise RecsysLabError(f"{path} is packed with zstd: unpack it first (zstd -d)")
        else:
            opener = {"gzip": gzip.open, "bz2": bz2.open, "xz": lzma.open}.get(kind, open)
            with opener(path, "rb") as handle:  # type: ignore[operator]
                yield handle
    except (EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, gzip.BadGzipFile, RuntimeError) as error:
        raise RecsysLabError(f"{path} can't be unpacked ({error}): it is damaged or cut; get it again") from error
    except OSError as error:
        if kind and error.errno is None:  # bz2: "Invalid data stream"
            raise RecsysLabError(f"{path} can't be unpacked ({error}): it is damaged; get it again") from error
        raise


def _only_member(path: Path, archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    members = [m for m in archive.infolist() if not m.is_dir() and not m.filename.startswith("__MACOSX/")]
    if any(m.filename == "[Content_Types].xml" for m in members):
        raise RecsysLabError(f"{path} is an Excel file: save it as CSV first")
    if len(members) != 1:
        names = ", ".join(m.filename for m in members[:5])
        raise RecsysLabError(f"{path} is an archive of {len(members)} files ({names}): unpack it and name one of them")
    if members[0].flag_bits & 1:
        raise RecsysLabError(f"{path} is protected by a password: unpack it first")
    return members[0]


def name_inside(path: Path) -> str:
    """The name of the one file in a zip archive; "" for every other path.

    Raises:
        RecsysLabError: for an archive with more than one file.
    """
    if not path.is_file() or packing_of(path) != "zip":
        return ""
    try:
        with zipfile.ZipFile(path) as archive:
            return _only_member(path, archive).filename
    except zipfile.BadZipFile:
        return ""  # it is told when it is read


def readable(path: Path, format: str, encoding: str | None, folder: Path) -> Path:
    """`path` itself where polars can scan it, else a plain copy of it below `folder`.

    Args:
        path: A local file.
        format: One of `FORMATS`.
        encoding: Of a text file, by its Python name; None = UTF-8.
        folder: Where copies go.

    Raises:
        RecsysLabError: for a kind of file that can't be read here, or text that is not in this encoding.
    """
    packing = packing_of(path)
    with path.open("rb") as handle:
        start = handle.read(32)
    for magic, (what, advice) in FOREIGN.items():
        if start.startswith(magic) or start.lower().startswith(magic):
            raise RecsysLabError(f"{path} is {what}: {advice}")
    if format == "parquet":
        if packing:
            raise RecsysLabError(f"{path} is packed ({packing}): unpack it first; Parquet is packed already")
        return path
    if start.startswith(b"PAR1"):
        raise RecsysLabError(f"{path} is a Parquet file, not {format}: {option('format', 'parquet')}")
    why = _why_copy(path, format, encoding, packing)
    if not why:
        return path
    place = folder / hashlib.sha256(str(path.absolute()).encode()).hexdigest()[:8] / path.stem
    note = place.with_name(place.name + ".version")
    version = json.dumps([file_state(path), format, encoding, why])
    if place.is_file() and note.is_file() and note.read_text() == version:
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    part = place.with_name(place.name + ".part")
    try:
        if packing == "zst":
            _unpack_zst(path, part)
        elif why == "array":
            _array_to_lines(path, encoding, part)
        else:
            _rewrite(path, encoding, part)
        os.replace(part, place)
    finally:
        part.unlink(missing_ok=True)
    note.write_text(version)
    return readable(place, format, None, folder) if packing == "zst" else place


def _why_copy(path: Path, format: str, encoding: str | None, packing: str) -> str:
    if encoding is not None and packing == "zst":
        raise RecsysLabError(f"{path} is packed with zstd and not in UTF-8: unpack it first (zstd -d)")
    if packing == "zst":
        return "zst"
    with open_bytes(path) as handle:
        start = handle.read(1 << 16)
    if encoding is None and start.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
        raise RecsysLabError(f"{path} is text in UTF-32: {option('encoding', 'utf-32')}")
    if encoding is None and start.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise RecsysLabError(f"{path} is text in UTF-16: {option('encoding', 'utf-16')}")
    if format == "jsonl":
        plain = start.decode(encoding or "utf-8", errors="replace").lstrip("\ufeff \t\r\n")
        if plain.startswith("["):
            return "array"
        if start.startswith(BOM):
            return "bom"
    if b"\0" in start[:200] and encoding is None and start[1:200:2].count(b"\0") > len(start[1:200:2]) // 2:
        raise RecsysLabError(f"{path} looks like text in UTF-16: {option('encoding', 'utf-16-le')}")
    if encoding is not None:
        return "encoding"
    if packing in ("bz2", "xz", "zip"):
        return "packed"
    return "line ends" if b"\r" in start and b"\n" not in start else ""


def _rewrite(path: Path, encoding: str | None, target: Path) -> None:
    """As UTF-8 with plain line ends, a piece at a time."""
    with open_bytes(path) as handle, target.open("w", encoding="utf-8", newline="") as out:
        try:
            text = io.TextIOWrapper(handle, encoding=encoding or "utf-8")  # reads \r and \r\n as \n
            first = True
            while piece := text.read(CHUNK):
                out.write(piece.removeprefix("\ufeff") if first else piece)
                first = False
            text.detach()
        except UnicodeError as error:
            raise RecsysLabError(undecodable(path, encoding) or f"{path} can't be decoded: {error}") from error


def undecodable(path: Path, encoding: str | None = None) -> str:
    """What to say of a text file that can't be decoded, naming the line; "" if it can be."""
    import codecs

    decoder = codecs.getincrementaldecoder(encoding or "utf-8")()
    fix = f" with {option('encoding')}" if encoding else f", for example {option('encoding', 'latin-1')}"
    number = 1
    with open_bytes(path) as handle:
        while True:
            piece = handle.readline(CHUNK)
            try:
                decoder.decode(piece, final=not piece)  # a file may end inside a character
            except UnicodeError as error:
                why = error.reason if isinstance(error, UnicodeDecodeError) else error
                text = f"{path}: line {number} is not text in {encoding or 'UTF-8'} ({why})"
                return f"{text}. Name the right encoding{fix}"
            if not piece:
                return ""
            number += piece.endswith(b"\n")


def _array_to_lines(path: Path, encoding: str | None, target: Path) -> None:
    """A JSON array of objects -> one object per line. The array is held in memory."""
    with open_bytes(path) as handle:
        content = handle.read()
    try:
        records = json.loads(content.decode(encoding or "utf-8-sig").removeprefix("\ufeff"))
    except UnicodeDecodeError as error:
        raise RecsysLabError(undecodable(path, encoding)) from error
    except (ValueError, RecursionError) as error:
        raise RecsysLabError(f"{path} begins like a JSON array, but is none: {error}") from error
    with target.open("w", encoding="utf-8") as out:
        for number, record in enumerate(records, start=1):
            if not isinstance(record, dict):
                raise RecsysLabError(f"{path}: entry {number} of the JSON array is not an object: {str(record)[:80]!r}")
            out.write(json.dumps(record, ensure_ascii=False) + "\n")


def _unpack_zst(path: Path, target: Path) -> None:
    """With polars, which unpacks zstd by itself: Python 3.11 can't."""
    lines = pl.scan_csv(
        path, separator="\x01", has_header=False, new_columns=["line"], quote_char=None, infer_schema=False, glob=False
    )
    try:
        lines.sink_csv(target, include_header=False, separator="\x01", quote_style="never")
    except pl.exceptions.PolarsError as error:
        raise RecsysLabError(f"{path} can't be unpacked ({str(error).splitlines()[0]})") from error
