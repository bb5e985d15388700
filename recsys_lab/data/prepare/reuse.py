"""Whether a prepared folder can be used again: was it made of the same source, in the same way?"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recsys_lab.data.prepare.integrity import FORMAT_VERSION
from recsys_lab.data.prepare.prepare_settings import PrepareSettings
from recsys_lab.data.prepare.processed import (
    ForeignFolderError,
    MissingDatasetError,
    ProcessedDataset,
    ProcessedDatasetError,
)
from recsys_lab.data.reading.download import ChecksumError, DownloadError
from recsys_lab.data.reading.source import Source

log = logging.getLogger("recsys_lab")


@dataclass(frozen=True)
class Existing:
    """What is in a folder: `data` if it can be reused, otherwise the reason, and whether other choices made it."""

    data: ProcessedDataset | None = None
    reason: str = ""
    is_other: bool = False


def open_existing(output: Path, source: Source, settings: PrepareSettings, raw_dir: Path) -> Existing:
    """What is in `output`, and whether it is what `source` and `settings` would make.

    Raises:
        ForeignFolderError: for a folder of other things, which must not be replaced.
        ChecksumError: for raw files that are not the published ones.
    """
    try:
        existing = ProcessedDataset.open(output)
    except MissingDatasetError:
        return Existing()
    except ForeignFolderError:
        if any(output.iterdir()):
            raise  # somebody else's files: never replaced
        return Existing()
    except ProcessedDatasetError as error:
        return Existing(None, str(error))
    made_of = existing.manifest["source"]
    if made_of["name"] != source.name:
        return Existing(None, f"it was made of source {made_of['name']!r}, not {source.name!r}", is_other=True)
    read_before, read_now = dict(made_of.get("reading", {})), source.reading()
    before, now = existing.manifest["settings"], settings.as_dict()
    changes = _changes(before, now)
    if "reading" in made_of:  # sets made before it was noted are told by the fingerprint alone
        changes += _changes(read_before, read_now, leave_out=FILES)
    if changes:
        return Existing(None, "; ".join(changes), is_other=True)
    try:
        fingerprint = source.fingerprint(raw_dir)
    except ChecksumError:
        raise
    except DownloadError as error:  # a prepared set that was copied to a machine without network is still good
        log.warning(
            "the raw files of %s can't be had, so they were not compared with %s: %s", source.name, output, error
        )
        return Existing(existing)
    if made_of["fingerprint"] == fingerprint:
        if existing.manifest["format_version"] < FORMAT_VERSION:
            return Existing(None, "it was prepared by a version that kept no further columns")
        return Existing(existing)
    if source.is_own and "reading" not in made_of:
        return Existing(None, "its files, or the options that say how to read them, were others", is_other=True)
    others = _changes({k: read_before.get(k) for k in FILES}, {k: read_now.get(k) for k in FILES})
    return Existing(None, "; ".join(others) or f"the files of {source.name!r} changed", is_other=bool(others))


FILES = ("input", "items", "users", "impressions")
"""Parts of `Source.reading` that name files: another name for the same content is no change."""


def _changes(before: dict[str, Any], now: dict[str, Any], leave_out: tuple[str, ...] = ()) -> list[str]:
    return [
        f"{name} changed from {as_typed(before.get(name))} to {as_typed(now.get(name))}"
        for name in sorted({*before, *now} - set(leave_out))
        if before.get(name) != now.get(name)
    ]


def as_typed(value: Any) -> str:
    """A setting as it is given on the command line; `none` for one that was not given."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(as_typed, value)) if isinstance(value, list | tuple) else str(value)
