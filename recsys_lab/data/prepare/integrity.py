"""The words of a prepared folder, and whether its files are what its manifest says."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from recsys_lab.data.fields.stored import StoredField, is_entry
from recsys_lab.words import EVENT_TYPE

FORMAT = "recsys_lab.processed"
FORMAT_VERSION = 2
"""Raised when the folder changes in a way that older code would misread. Version 1 had event types as its only field,
and is read; others are never opened."""

MANIFEST = "manifest.json"
USERS = "users.parquet"
ITEMS = "items.parquet"
IMPRESSIONS = "impressions.parquet"
CORE = {"item_ids": "int32", "timestamps": "int64", "offsets": "int64"}
"""The arrays that every set has, by file stem, and their types. Those of fields lie in folders."""
SHOWN_ARRAYS = {
    **{"shown/item_ids": "int32", "shown/labels": "float32"},
    **{"shown/offsets": "int64", "shown/users": "int32", "shown/timestamps": "int64"},
}
"""The arrays of a set with impressions."""
OLD_NAMES = {f"events/{EVENT_TYPE}": "event_types"}
"""Array -> its name in version 1, by which it also counts in `data_hash`, so that old results keep their hash."""

PIECE = 1 << 20
"""Values that are read at once, so that a map is never held in memory."""

REQUIRED = (
    *("name", "source", "settings", "num_users", "num_items", "num_events", "has_timestamps"),
    *("fields", "arrays", "tables", "vocabulary_hash"),
)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_entries(value: Any, number: str) -> bool:
    return isinstance(value, dict) and all(
        isinstance(about, dict) and _is_count(about.get(number)) and isinstance(about.get("sha256"), str)
        for about in value.values()
    )


FORMS: dict[str, Callable[[Any], bool]] = {
    "name": lambda value: isinstance(value, str),
    "source": lambda value: isinstance(value, dict) and {"name", "fingerprint"} <= set(value),
    "settings": lambda value: isinstance(value, dict),
    "num_users": _is_count,
    "num_items": _is_count,
    "num_events": _is_count,
    "has_timestamps": lambda value: isinstance(value, bool),
    "fields": lambda value: isinstance(value, list) and all(map(is_entry, value)),
    "arrays": lambda value: _is_entries(value, "length"),
    "tables": lambda value: _is_entries(value, "bytes"),
    "vocabulary_hash": lambda value: isinstance(value, str),
}
"""What each part of a manifest looks like."""


def array_sha256(array: np.ndarray) -> str:
    """sha256 of the values (not of the .npy header), read in pieces so that a map is never held in memory."""
    digest = hashlib.sha256()
    for start in range(0, len(array), PIECE):
        digest.update(np.ascontiguousarray(array[start : start + PIECE]).tobytes())
    return digest.hexdigest()


def array_form(name: str, about: dict[str, Any]) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """Type and shape that an array of the manifest should have: those of our own arrays stand in the code."""
    shape = (about["length"],) if about.get("width") is None else (about["length"], about["width"])
    return np.dtype((CORE | SHOWN_ARRAYS).get(name, str(about.get("dtype")))), shape


def hash_checks(path: Path, manifest: dict[str, Any], arrays: dict[str, np.ndarray]) -> dict[str, bool]:
    """File name -> whether it is, by its sha256, what was prepared; arrays count by their values."""
    found = {f"{name}.npy": array_sha256(array) for name, array in arrays.items()}
    for name in manifest["tables"]:
        with open(path / name, "rb") as file:
            found[name] = hashlib.file_digest(file, "sha256").hexdigest()
    recorded = {f"{name}.npy": about["sha256"] for name, about in manifest["arrays"].items()}
    recorded |= {name: about["sha256"] for name, about in manifest["tables"].items()}
    return {name: digest == recorded[name] for name, digest in found.items()}


def fields_of(manifest: dict[str, Any]) -> dict[str, StoredField]:
    """The fields of a manifest by their keys, those of events first."""
    found = [StoredField.from_dict(about) for about in manifest["fields"]]
    return {field.key: field for field in found}


def rows_of(manifest: dict[str, Any], scope: str) -> int:
    """How many rows a field of this scope has."""
    return manifest.get({"event": "num_events", "item": "num_items", "user": "num_users"}.get(scope, "num_shown"), 0)


def array_lengths(manifest: dict[str, Any]) -> dict[str, int | None]:
    """Array that must be there -> its length; None where that is any."""
    users, events = manifest["num_users"], manifest["num_events"]
    found: dict[str, int | None] = {"item_ids": events, "timestamps": events, "offsets": users + 1}
    if manifest.get("num_impressions"):
        shown, impressions = manifest.get("num_shown"), manifest["num_impressions"]
        found |= {"shown/item_ids": shown, "shown/labels": shown, "shown/offsets": impressions + 1}
        found |= {"shown/users": impressions, "shown/timestamps": impressions}
    for field in fields_of(manifest).values():
        if field.kind == "text":
            continue
        for name, rows in ((field.array, rows_of(manifest, field.scope)), (field.event_array, events)):
            if name == field.event_array and not field.from_events:
                continue
            found[name] = None if field.kind == "multi" else rows
            if field.kind == "multi":
                found[f"{name}.offsets"] = rows + 1
    return found


def table_rows(manifest: dict[str, Any]) -> dict[str, int]:
    """Table that must be there -> its rows."""
    found = {USERS: manifest["num_users"], ITEMS: manifest["num_items"]}
    if manifest.get("num_impressions"):
        found[IMPRESSIONS] = manifest["num_impressions"]
    if manifest["format_version"] == 1:
        return found
    for field in fields_of(manifest).values():
        if field.has_values:
            found[field.table] = field.num_values
        elif field.has_text_file:
            found[field.table] = rows_of(manifest, field.scope)
    return found


def value_faults(path: Path, manifest: dict[str, Any], arrays: dict[str, np.ndarray]) -> list[str]:
    """What does not fit together: offsets that don't ascend, ids and codes out of range, other numbers of rows.

    One pass over the arrays, in pieces.
    """
    faults = []
    if not _ascends(arrays["offsets"], 1):
        faults.append("offsets.npy does not ascend: some user has no events, or fewer than none")
    low, high = _range(arrays["item_ids"])
    most = manifest["num_items"]
    with_events = most - manifest.get("num_only_shown", 0)  # the others come behind these
    if (low, high) != (1, with_events):
        faults.append(f"item_ids.npy holds {low} to {high}, its {MANIFEST} says 1 to {with_events}")
    if "shown/item_ids" in arrays:
        for name, top in (("shown/item_ids", most), ("shown/users", manifest["num_users"] - 1)):
            low, high = _range(arrays[name])
            if low < (name == "shown/item_ids") or high > top:
                faults.append(f"{name}.npy holds {low} to {high}, its {MANIFEST} says up to {top}")
    for name in arrays:
        if name.endswith((".offsets", "shown/offsets")) and not _ascends(arrays[name], 0):
            faults.append(f"{name}.npy does not ascend: some row has fewer values than none")
    codes = {f.array: f for f in fields_of(manifest).values() if f.has_values}
    codes |= {f.event_array: f for f in codes.values() if f.from_events}
    for name, field in codes.items():
        stored = name if name in arrays else OLD_NAMES.get(name, name)
        low, high = _range(arrays[stored]) if stored in arrays else (0, 0)
        if high > field.num_values:
            faults.append(f"{stored}.npy holds {low} to {high}, its {MANIFEST} says 1 to {field.num_values}")
    for name, rows in table_rows(manifest).items():
        try:
            found = pl.scan_parquet(path / name).select(pl.len()).collect().item()
        except pl.exceptions.PolarsError as error:
            faults.append(f"{name} can't be read ({str(error).splitlines()[0]})")
            continue
        if found != rows:
            faults.append(f"{name} has {found} rows, its {MANIFEST} says {rows}")
    return faults


def _ascends(offsets: np.ndarray, least: int) -> bool:
    pieces = range(0, len(offsets), PIECE)
    return all(bool(np.all(np.diff(offsets[start : start + PIECE + 1]) >= least)) for start in pieces)


def _range(array: np.ndarray) -> tuple[int, int]:
    pieces = [array[start : start + PIECE] for start in range(0, len(array), PIECE)]
    return min((int(p.min()) for p in pieces), default=1), max((int(p.max()) for p in pieces), default=0)
