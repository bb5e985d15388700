"""The audit of the data that a run was made on, as its manifest names it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any


def audit_of(datamodule: Any) -> dict[str, Any] | None:
    """`audit_entry` of what a datamodule reads; None for a datamodule that is not over a prepared folder."""
    if not hasattr(datamodule, "evaluation_settings") or not hasattr(datamodule, "processed"):
        return None
    settings = datamodule.evaluation_settings()
    return audit_entry(Path(datamodule.processed.path), settings["data_hash"], settings["split_hash"])


def audit_entry(folder: Path, data_hash: str, split_hash: str) -> dict[str, Any] | None:
    """Names an audit of a prepared folder and its hash; None where `recsys-lab audit` has not written one.

    It is the audit of this split, `audit-<split_hash>.json`, if there is one; else the latest, `audit.json`.
    `same_data` and `same_split` say whether the audit is of what this run used.
    """
    path = folder / f"audit-{split_hash}.json"
    path = path if path.is_file() else folder / "audit.json"
    try:
        content = path.read_bytes()
        audit = json.loads(content)
        return {
            "file": str(path),
            "sha256": hashlib.sha256(content).hexdigest(),
            "split": audit["split"]["name"],
            "same_data": audit["dataset"]["data_hash"] == data_hash,
            "same_split": audit["split"]["split_hash"] == split_hash,
        }
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        return {"file": str(path), "error": f"not a readable audit ({type(error).__name__}: {error})"}
