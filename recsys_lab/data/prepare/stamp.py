"""The stamp of a prepared folder: what its files looked like when they were last known to be right.

While the files have the same size, times and inode, nothing has to be read to trust them; so opening stays fast at any
size. Otherwise every file is read once and compared with the manifest, and a new stamp is kept.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from recsys_lab.data.reading.digests import file_state

STAMP = "stamp.json"
_known: dict[Path, dict[str, Any]] = {}  # of folders that can't be written: read once per process


def stamp_of(folder: Path, manifest: str, names: Iterable[str]) -> dict[str, Any]:
    """The stamp of the files `names` in `folder` as they are now.

    Args:
        folder: A prepared folder.
        manifest: Name of its manifest, of which the content itself is kept (sha256): nothing else vouches for it.
        names: Files that the manifest vouches for.
    """
    content = hashlib.sha256((folder / manifest).read_bytes()).hexdigest()
    return {"manifest_sha256": content, "files": {name: file_state(folder / name) for name in sorted(names)}}


def read_stamp(folder: Path) -> dict[str, Any]:
    """The stamp that was kept beside the data; empty where there is none, or none that can be read."""
    try:
        content = json.loads((folder / STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def is_trusted(folder: Path, now: dict[str, Any], kept: dict[str, Any]) -> bool:
    """Whether files that look like `now` were found right before: by the stamp beside them, or in this process."""
    return now in (kept, _known.get(folder))


def keep_stamp(folder: Path, stamp: dict[str, Any]) -> None:
    """Beside the data; where that can't be written, for as long as this process lives."""
    _known[folder] = stamp
    part = folder / f"{STAMP}.{uuid.uuid4().hex[:12]}"
    with contextlib.suppress(OSError):
        try:
            part.write_text(json.dumps(stamp, indent=1) + "\n", encoding="utf-8")
            os.replace(part, folder / STAMP)
        finally:
            part.unlink(missing_ok=True)
