"""ProcessedDataset: the read-only, memory-mapped handle of a prepared data set, and the words of its folder."""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from recsys_lab.data.prepare.integrity import (
    ARRAY_TYPES,
    FORMAT,
    FORMAT_VERSION,
    FORMS,
    ITEMS,
    MANIFEST,
    REQUIRED,
    USERS,
    array_sha256,
    hash_checks,
    value_faults,
)
from recsys_lab.data.prepare.stamp import is_trusted, keep_stamp, read_stamp, stamp_of
from recsys_lab.words import ITEM_ID, USER_ID, RecsysLabError

__all__ = [
    "ARRAY_TYPES",
    "FORMAT",
    "FORMAT_VERSION",
    "ITEMS",
    "MANIFEST",
    "USERS",
    "ForeignFolderError",
    "MissingDatasetError",
    "ProcessedDataset",
    "ProcessedDatasetError",
    "array_sha256",
    "files_of",
    "read_manifest",
]


class ProcessedDatasetError(RecsysLabError):
    """The folder is missing, foreign, of another format version, or damaged."""


class MissingDatasetError(ProcessedDatasetError):
    """There is no such folder."""


class ForeignFolderError(ProcessedDatasetError):
    """The folder was not written by `prepare`, so it must not be replaced either."""


class ProcessedDataset:
    """A prepared data set: one flat array per column, the events of a user back to back (CSR).

    User `u` (0-based) owns the events `offsets[u]:offsets[u + 1]`, oldest first. Opening maps the arrays and reads
    the manifest only: milliseconds at any size. Files that changed since they were last known to be right (see
    `stamp.py`) are read once and compared with the manifest. Get one with `ProcessedDataset.open(folder)`.

    Attributes:
        path: The folder, absolute.
        manifest: How the set was made: source, settings, counts at each step, versions, hashes.
        item_ids: (num_events,) int32, 1..num_items.
        timestamps: (num_events,) int64 unix seconds; the position 0, 1, 2, .. within the user if the data has no time.
        event_types: (num_events,) uint8, 1..num_event_types, or None if the data has none.
        offsets: (num_users + 1,) int64.
    """

    item_ids: np.ndarray
    timestamps: np.ndarray
    event_types: np.ndarray | None
    offsets: np.ndarray

    def __init__(self, path: Path, manifest: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        self.path = path
        self.manifest = manifest
        self.item_ids = arrays["item_ids"]
        self.timestamps = arrays["timestamps"]
        self.event_types = arrays.get("event_types")
        self.offsets = arrays["offsets"]

    @classmethod
    def open(cls, path: str | Path, verify: bool = False) -> ProcessedDataset:
        """Opens a prepared folder.

        Args:
            path: The folder that `prepare` wrote.
            verify: Read every file and compare it with the manifest, also where none has changed.

        Raises:
            MissingDatasetError: there is no such folder.
            ForeignFolderError: the folder is not a prepared data set.
            ProcessedDatasetError: it has another format version, or its files are not those that were prepared.
        """
        path = Path(path).absolute()
        manifest = read_manifest(path)
        arrays = {name: _map_array(path, name, about) for name, about in manifest["arrays"].items()}
        _check_shapes(path, manifest, arrays)
        kept, now = read_stamp(path), stamp_of(path, MANIFEST, files_of(manifest))
        if kept.get("manifest_sha256", now["manifest_sha256"]) != now["manifest_sha256"]:
            raise damaged(path, f"its {MANIFEST} was changed after it was prepared")
        trusted = is_trusted(path, now, kept)
        if verify or not trusted:
            _check_hashes(path, manifest, arrays)
            _check_values(path, manifest, arrays)
        if not trusted:
            keep_stamp(path, now)
        return cls(path, manifest, arrays)

    def __reduce__(self) -> Any:
        """Pickles as its path: a memory map would otherwise be copied into every worker process."""
        return ProcessedDataset.open, (self.path,)

    def __repr__(self) -> str:
        return (
            f"ProcessedDataset({self.name!r}, {self.num_users:,} users, {self.num_items:,} items, "
            f"{self.num_events:,} events, {str(self.path)!r})"
        )

    @property
    def name(self) -> str:
        return self.manifest["name"]

    @property
    def num_users(self) -> int:
        return self.manifest["num_users"]

    @property
    def num_items(self) -> int:
        return self.manifest["num_items"]

    @property
    def num_events(self) -> int:
        return self.manifest["num_events"]

    @property
    def num_event_types(self) -> int:
        """0 if the data has no event types; otherwise they are 1..num_event_types."""
        return len(self.event_type_names)

    @property
    def event_type_names(self) -> list[str]:
        """Name of event type 1, 2, ..; empty if the data has none."""
        return self.manifest["event_type_names"]

    @property
    def has_timestamps(self) -> bool:
        return self.manifest["has_timestamps"]

    @cached_property
    def data_hash(self) -> str:
        """16 hex digits that change with any prepared event."""
        hashes = {name: about["sha256"] for name, about in self.manifest["arrays"].items()}
        return hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def vocabulary_hash(self) -> str:
        """16 hex digits of the raw item ids in order: two sets that share it share the rows of an item table."""
        return self.manifest["vocabulary_hash"]

    @cached_property
    def user_ids(self) -> pl.Series:
        """(num_users,) raw user ids: entry u belongs to user u."""
        return pl.read_parquet(self.path / USERS, columns=[USER_ID])[USER_ID]

    @cached_property
    def item_ids_raw(self) -> pl.Series:
        """(num_items,) raw item ids: entry i - 1 belongs to item i."""
        return pl.read_parquet(self.path / ITEMS, columns=[ITEM_ID])[ITEM_ID]

    @cached_property
    def user_table(self) -> pl.DataFrame:
        """Row u: raw id and features of user u."""
        return pl.read_parquet(self.path / USERS)

    @cached_property
    def item_table(self) -> pl.DataFrame:
        """Row i - 1: raw id and features of item i; null where the source has no feature row for it."""
        return pl.read_parquet(self.path / ITEMS)


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a prepared folder of this format version.

    Raises:
        MissingDatasetError, ForeignFolderError, ProcessedDatasetError: as `ProcessedDataset.open`.
    """
    if not path.is_dir():
        raise MissingDatasetError(f"there is no prepared data set at {path}: prepare one with `recsys-lab prepare`")
    foreign = f"{path} is not a prepared data set of recsys_lab"
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ForeignFolderError(f"{foreign}: it has no {MANIFEST}") from None
    except (OSError, ValueError) as error:
        whose = ". Delete the folder and prepare it again" if (path / "item_ids.npy").is_file() else ""
        raise ForeignFolderError(f"{foreign}: its {MANIFEST} can't be read ({error}){whose}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ForeignFolderError(f"{foreign}: its {MANIFEST} was written by something else")
    if manifest.get("format_version") != FORMAT_VERSION:
        raise ProcessedDatasetError(
            f"{path} has format version {manifest.get('format_version')}, this recsys_lab reads version "
            f"{FORMAT_VERSION}: prepare it again with `recsys-lab prepare`"
        )
    missing = [key for key in REQUIRED if key not in manifest]
    if missing:
        raise damaged(path, f"its {MANIFEST} lacks {', '.join(missing)}")
    wrong = [key for key, is_right in FORMS.items() if not is_right(manifest[key])]
    if wrong:
        raise damaged(path, f"{', '.join(wrong)} in its {MANIFEST} is not what `prepare` writes")
    return manifest


def files_of(manifest: dict[str, Any]) -> list[str]:
    """Names of the files that a manifest vouches for."""
    return [f"{name}.npy" for name in manifest["arrays"]] + list(manifest["tables"])


def damaged(path: Path, what: str) -> ProcessedDatasetError:
    """The error of a prepared folder that is not as it was prepared."""
    return ProcessedDatasetError(f"{path} is damaged: {what}. Delete the folder and prepare it again")


def _map_array(path: Path, name: str, about: dict[str, Any]) -> np.ndarray:
    try:
        array = np.load(path / f"{name}.npy", mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise damaged(path, f"{name}.npy can't be read ({error})") from error
    # the dtype itself, not its name: int32 in another byte order has the same name
    if array.shape != (about["length"],) or name not in ARRAY_TYPES or array.dtype != np.dtype(ARRAY_TYPES[name]):
        raise damaged(
            path,
            f"{name}.npy holds {array.dtype.name} of shape {array.shape}, "
            f"its manifest says {ARRAY_TYPES.get(name)} of shape ({about['length']},)",
        )
    return array


def _check_shapes(path: Path, manifest: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """What the sizes alone can tell; reads two numbers."""
    missing = [name for name in ("item_ids", "timestamps", "offsets") if name not in arrays]
    missing += [name for name in (USERS, ITEMS) if name not in manifest["tables"] or not (path / name).is_file()]
    if missing:
        raise damaged(path, f"{', '.join(missing)} is missing")
    offsets = arrays["offsets"]
    num_events = manifest["num_events"]
    if len(offsets) != manifest["num_users"] + 1 or offsets[0] != 0 or offsets[-1] != num_events:
        raise damaged(path, f"offsets.npy doesn't cover {manifest['num_users']} users and {num_events} events")
    for name, array in arrays.items():
        if name != "offsets" and len(array) != num_events:
            raise damaged(path, f"{name}.npy holds {len(array)} events, the manifest says {num_events}")
    for name, about in manifest["tables"].items():
        size = (path / name).stat().st_size
        if size != about["bytes"]:
            raise damaged(path, f"{name} has {size} bytes, the manifest says {about['bytes']}")


def _check_hashes(path: Path, manifest: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """Reads everything."""
    wrong = [name for name, is_same in hash_checks(path, manifest, arrays).items() if not is_same]
    if wrong:
        raise damaged(path, f"{', '.join(wrong)} differs from what was prepared (sha256)")


def _check_values(path: Path, manifest: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """That the counts of the manifest are those of the files: their own hashes say nothing of it."""
    wrong = value_faults(path, manifest, arrays)
    if wrong:
        raise damaged(path, "; ".join(wrong))
