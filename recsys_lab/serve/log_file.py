"""LogFile: how `recommend --input` reads a file of events, in the words of `prepare`."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, Literal

from recsys_lab.arguments import Commas, check_fields
from recsys_lab.data.reading.file_source import Format

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class LogFile:
    """How the input is read, as `prepare` reads a log.

    Args:
        user_column: in the input (default user_id).
        item_column: in the input (default item_id).
        timestamp_column: in the input (default timestamp).
        format: of the input (default: by the file name).
        separator: between the fields of a csv or tsv, if not comma or tab.
        encoding: of a text file, if not UTF-8: latin-1, utf-16, ...
        names: columns of a csv or tsv without a header line: user_id,item_id,timestamp
        missing_ids: rows without a user or an item: an error, or drop them.
        bad_times: rows without a usable time: an error, or drop them.
    """

    user_column: str | None = None
    item_column: str | None = None
    timestamp_column: str | None = None
    format: Format | None = None
    separator: str | None = None
    encoding: str | None = None
    names: Annotated[list[str], Commas] | None = None
    missing_ids: Literal["error", "drop"] = "error"
    bad_times: Literal["error", "drop"] = "error"

    def __post_init__(self) -> None:
        check_fields(self)

    def read(self, path: str) -> pl.DataFrame:
        """The events of the file, with the columns of `Predictor.recommend`."""
        import tempfile
        from pathlib import Path

        from recsys_lab.data.prepare_files import OwnFiles
        from recsys_lab.data.reading.spelling import command_line

        files = OwnFiles(path, **{field.name: getattr(self, field.name) for field in fields(self)})
        with command_line(), tempfile.TemporaryDirectory() as scratch:
            return files.source().tables(Path(scratch)).interactions.collect()
