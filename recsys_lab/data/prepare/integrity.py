"""The words of a prepared folder, and whether its files are what its manifest says."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from recsys_lab.words import ITEM_ID, USER_ID

FORMAT = "recsys_lab.processed"
FORMAT_VERSION = 1
"""Raised when the folder changes in a way that older code would misread; other versions are never opened."""

MANIFEST = "manifest.json"
USERS = "users.parquet"
ITEMS = "items.parquet"
ARRAY_TYPES = {"item_ids": "int32", "timestamps": "int64", "event_types": "uint8", "offsets": "int64"}
"""File stem -> dtype. `event_types` is absent where the source has none."""

PIECE = 1 << 20
"""Values that are read at once, so that a map is never held in memory."""

REQUIRED = (
    *("name", "source", "settings", "num_users", "num_items", "num_events", "has_timestamps", "event_type_names"),
    *("arrays", "tables", "vocabulary_hash"),
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
    "event_type_names": lambda value: isinstance(value, list),
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


def hash_checks(path: Path, manifest: dict[str, Any], arrays: dict[str, np.ndarray]) -> dict[str, bool]:
    """File name -> whether it is, by its sha256, what was prepared; arrays count by their values."""
    found = {f"{name}.npy": array_sha256(array) for name, array in arrays.items()}
    found |= {name: hashlib.sha256((path / name).read_bytes()).hexdigest() for name in manifest["tables"]}
    recorded = {f"{name}.npy": about["sha256"] for name, about in manifest["arrays"].items()}
    recorded |= {name: about["sha256"] for name, about in manifest["tables"].items()}
    return {name: digest == recorded[name] for name, digest in found.items()}


def value_faults(path: Path, manifest: dict[str, Any], arrays: dict[str, np.ndarray]) -> list[str]:
    """What does not fit together: offsets that don't ascend, ids and event types out of range, other numbers of rows.

    One pass over the arrays, in pieces.
    """
    faults = []
    ascending = all(
        bool(np.all(np.diff(arrays["offsets"][start : start + PIECE + 1]) > 0))
        for start in range(0, len(arrays["offsets"]), PIECE)
    )
    if not ascending:
        faults.append("offsets.npy does not ascend: some user has no events, or fewer than none")
    for name, most, exact in (
        ("item_ids", manifest["num_items"], True),
        ("event_types", len(manifest["event_type_names"]), False),
    ):
        if name not in arrays:
            continue
        low, high = _range(arrays[name])
        if low < 1 or high > most or (exact and high < most):
            faults.append(f"{name}.npy holds {low} to {high}, its {MANIFEST} says 1 to {most}")
    for name, column, rows in ((USERS, USER_ID, manifest["num_users"]), (ITEMS, ITEM_ID, manifest["num_items"])):
        try:
            found = pl.scan_parquet(path / name).select(pl.col(column).len()).collect().item()
        except pl.exceptions.PolarsError as error:
            faults.append(f"{name} can't be read ({str(error).splitlines()[0]})")
            continue
        if found != rows:
            faults.append(f"{name} has {found} rows, its {MANIFEST} says {rows}")
    return faults


def _range(array: np.ndarray) -> tuple[int, int]:
    pieces = [array[start : start + PIECE] for start in range(0, len(array), PIECE)]
    return min((int(p.min()) for p in pieces), default=1), max((int(p.max()) for p in pieces), default=0)
