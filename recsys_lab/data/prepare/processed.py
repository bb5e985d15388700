"""ProcessedDataset: the read-only, memory-mapped handle of a prepared data set, and the words of its folder."""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from recsys_lab.data.fields.stored import StoredField, hash_of
from recsys_lab.data.prepare.integrity import (
    CORE,
    FORMAT,
    FORMAT_VERSION,
    IMPRESSIONS,
    ITEMS,
    MANIFEST,
    OLD_NAMES,
    SHOWN_ARRAYS,
    USERS,
    array_form,
    array_lengths,
    array_sha256,
    fields_of,
    hash_checks,
    table_rows,
    value_faults,
)
from recsys_lab.data.prepare.manifest import (
    ForeignFolderError,
    MissingDatasetError,
    ProcessedDatasetError,
    damaged,
    files_of,
    read_manifest,
)
from recsys_lab.data.prepare.stamp import is_trusted, keep_stamp, read_stamp, stamp_of
from recsys_lab.words import EVENT_TYPE, ITEM_ID, USER_ID, RecsysLabError, resolve_names

SHARDS = "shards.json"  # of a set in shards
__all__ = [
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
        offsets: (num_users + 1,) int64.
        fields: Every further column, by key: `name` of events, `item.name`, `user.name`, `shown.name`.
    """

    item_ids: np.ndarray
    timestamps: np.ndarray
    offsets: np.ndarray
    fields: dict[str, StoredField]

    def __init__(self, path: Path, manifest: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        self.path = path
        self.manifest = manifest
        self.arrays = arrays
        self.item_ids, self.timestamps, self.offsets = (arrays[name] for name in CORE)
        self.fields = fields_of(manifest)

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
        if (path / SHARDS).is_file() and cls is ProcessedDataset:
            from recsys_lab.data.shards.sharded_dataset import ShardedDataset

            return ShardedDataset.open(path, verify)
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
    def event_types(self) -> np.ndarray | None:
        """(num_events,) codes of the field `event_type`, or None if the data has none."""
        return self.field_array(EVENT_TYPE) if self.event_type_names else None

    @property
    def num_event_types(self) -> int:
        """0 if the data has no event types; otherwise they are 1..num_event_types."""
        return len(self.event_type_names)

    @cached_property
    def event_type_names(self) -> list[str]:
        """Name of event type 1, 2, ..; empty if the data has none."""
        field = self.fields.get(EVENT_TYPE)
        return self.field_values(EVENT_TYPE).to_list() if field is not None and field.kind == "categorical" else []

    def field(self, key: str) -> StoredField:
        """What is stored of a field.

        Raises:
            RecsysLabError: for an unknown key, listing the known ones.
        """
        if key not in self.fields and self.manifest["format_version"] == 1:
            raise RecsysLabError(
                f"{self.name!r} has no field {key!r}: it was prepared by an older version, which kept none but "
                f"{EVENT_TYPE}; prepare it again with `recsys-lab prepare ... --force`"
            )
        resolve_names([key], self.fields, f"field of {self.name!r}")
        return self.fields[key]

    def field_array(self, key: str) -> np.ndarray:
        """The memory-mapped values of a field, as `StoredField` says; for `multi` the codes of all rows together.

        Raises:
            RecsysLabError: for an unknown key, or a field of text.
        """
        return self._array(self.field(key).array, key)

    def field_offsets(self, key: str) -> np.ndarray:
        """(rows + 1,) int64: row r of a multi field has the codes from entry r to entry r + 1."""
        return self._array(self.field(key).offsets, key)

    def event_array(self, key: str) -> np.ndarray:
        """Of a field of items or users that comes `from_events`: the value of each event, as `field_array` has them;
        for a multi field the codes are those from `event_offsets`."""
        return self._array(self.field(key).event_array, key)

    def event_offsets(self, key: str) -> np.ndarray:
        """(num_events + 1,) int64 beside `event_array` of a multi field."""
        return self._array(f"{self.field(key).event_array}.offsets", key)

    def field_values(self, key: str) -> pl.Series:
        """(num_values,) raw values of the codes 1, 2, .. of a categorical or multi field, ascending."""
        field = self.field(key)
        if self.manifest["format_version"] == 1:
            return pl.Series(key, self.manifest["event_type_names"], dtype=pl.String)
        if not field.has_values:
            raise RecsysLabError(f"the field {key!r} is {field.kind}: it has no list of values")
        return pl.read_parquet(self.path / field.table)["value"].alias(key)

    def field_text(self, key: str) -> pl.Series:
        """(rows,) text of a field that is kept for people; null where it is missing."""
        field = self.field(key)
        if field.kind != "text":
            raise RecsysLabError(f"the field {key!r} is {field.kind}, not text")
        if not field.has_text_file:
            table = USERS if field.scope == "user" else ITEMS
            return pl.read_parquet(self.path / table, columns=[field.name])[field.name].cast(pl.String).alias(key)
        return pl.read_parquet(self.path / field.table)["value"].alias(key)

    def field_hash(self, key: str) -> str:
        """16 hex digits that change with any value of the field."""
        return self.field(key).hash

    @cached_property
    def fields_hash(self) -> str:
        """16 hex digits of all fields: their names, kinds and values."""
        return hash_of(*(text for field in self.fields.values() for text in (field.key, field.known_at, field.hash)))

    def _array(self, name: str, key: str) -> np.ndarray:
        found = self.arrays.get(name, self.arrays.get(OLD_NAMES.get(name, "")))
        if found is None:
            raise RecsysLabError(f"the field {key!r} is {self.field(key).kind}: there is no array {name}")
        return found

    @property
    def num_impressions(self) -> int:
        """0 where the data has none. Impression i shows the items `shown/item_ids` from entry `shown/offsets[i]` to
        `[i + 1]` of `arrays`, with `shown/labels`, to user `shown/users[i]` at `shown/timestamps[i]`."""
        return self.manifest.get("num_impressions", 0)

    @cached_property
    def impression_ids(self) -> pl.Series:
        """(num_impressions,) raw ids."""
        return pl.read_parquet(self.path / IMPRESSIONS)[:, 0]

    @cached_property
    def shown_hash(self) -> str:
        """16 hex digits of who was shown what, when, with which label."""
        arrays = self.manifest["arrays"]
        return hash_of(*(arrays[name]["sha256"] for name in SHOWN_ARRAYS if name in arrays))

    @property
    def has_timestamps(self) -> bool:
        return self.manifest["has_timestamps"]

    @cached_property
    def data_hash(self) -> str:
        """16 hex digits that change with any prepared event: its user, item, time or type. Other fields have hashes of
        their own."""
        arrays = {OLD_NAMES.get(name, name): about["sha256"] for name, about in self.manifest["arrays"].items()}
        hashes = {name: sha for name, sha in arrays.items() if name in (*CORE, *OLD_NAMES.values())}
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


def _map_array(path: Path, name: str, about: dict[str, Any]) -> np.ndarray:
    try:
        array = np.load(path / f"{name}.npy", mmap_mode="r", allow_pickle=False)
        dtype, shape = array_form(name, about)
    except (OSError, ValueError, TypeError, EOFError) as error:
        raise damaged(path, f"{name}.npy can't be read ({error})") from error
    # the dtype itself, not its name: int32 in another byte order has the same name
    if array.shape != shape or array.dtype != dtype:
        raise damaged(
            path,
            f"{name}.npy holds {array.dtype.name} of shape {array.shape}, its manifest says {dtype} of shape {shape}",
        )
    return array


def _check_shapes(path: Path, manifest: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """What the sizes alone can tell; reads two numbers."""
    lengths = array_lengths(manifest)
    missing = [f"{name}.npy" for name in lengths if name not in arrays and OLD_NAMES.get(name) not in arrays]
    missing += [name for name in table_rows(manifest) if name not in manifest["tables"] or not (path / name).is_file()]
    if missing:
        raise damaged(path, f"{', '.join(missing)} is missing")
    unknown = {*arrays, *manifest["tables"]} - {*lengths, *table_rows(manifest), *(OLD_NAMES.get(n) for n in lengths)}
    if unknown:
        raise damaged(path, f"its {MANIFEST} has {', '.join(sorted(unknown))} and no field of it")
    offsets, num_events = arrays["offsets"], manifest["num_events"]
    if len(offsets) != manifest["num_users"] + 1 or offsets[0] != 0 or offsets[-1] != num_events:
        raise damaged(path, f"offsets.npy doesn't cover {manifest['num_users']} users and {num_events} events")
    for name, length in lengths.items():
        found = arrays[name if name in arrays else OLD_NAMES[name]]
        if length is not None and len(found) != length:
            raise damaged(path, f"{name}.npy holds {len(found)} values, the manifest says {length}")
        if name == "shown/offsets" and (found[0] != 0 or found[-1] != len(arrays["shown/item_ids"])):
            raise damaged(path, f"{name}.npy doesn't cover the values of shown/item_ids.npy")
        if name.endswith(".offsets") and (found[0] != 0 or found[-1] != len(arrays[name.removesuffix(".offsets")])):
            raise damaged(path, f"{name}.npy doesn't cover the values of {name.removesuffix('.offsets')}.npy")
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
