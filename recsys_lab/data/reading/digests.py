"""Digests of raw files, remembered while a file stays as it is: opening a data set need not read gigabytes again."""

from __future__ import annotations

import contextlib
import json
import os
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from recsys_lab.data.reading.download import file_digest

NOTE = ".digests.json"
SETTLED_NS = 2_000_000_000
"""A file must be older than this before its digest is remembered: clocks of file systems tick coarsely (FAT: 2 s), so a
file that is written twice in one tick may look the same both times. git guards its index the same way."""


class Digests:
    """Digests of files, noted in `folder/.digests.json` under the file's path.

    A note holds only for a file of the same size, modification and change time (ns), inode and device. The change time
    is the system's: it also tells a file whose modification time was set back. A folder that can't be written, and a
    note that can't be read, cost time and nothing else.
    """

    def __init__(self, folder: Path) -> None:
        self.note = folder / NOTE

    def of(self, path: Path, algorithm: str = "sha256", read: Callable[[Path, str], str] = file_digest) -> str:
        """Hex digest of a file.

        Args:
            path: The file.
            algorithm: A name of hashlib; part of what the digest is noted under.
            read: (path, algorithm) -> digest, called where there is no note; its name is part of the key too.
        """
        now, state = time.time_ns(), file_state(path)
        key = f"{path.absolute()} {algorithm} {read.__name__}"
        known = self._load().get(key)
        if isinstance(known, dict) and known.get("state") == state and isinstance(known.get("digest"), str):
            return known["digest"]
        digest = read(path, algorithm)
        settled = now - max(state["mtime_ns"], state["ctime_ns"]) > SETTLED_NS
        if settled and file_state(path) == state:  # not if it changed while it was read
            self._keep(key, {"path": str(path.absolute()), "state": state, "digest": digest})
        return digest

    def _load(self) -> dict[str, Any]:
        try:
            content = json.loads(self.note.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    def _keep(self, key: str, entry: dict[str, Any]) -> None:
        """Of two processes that write at once one note may be lost: that file is read once more."""
        with contextlib.suppress(OSError):
            kept = {k: v for k, v in self._load().items() if isinstance(v, dict) and os.path.exists(v.get("path", ""))}
            self.note.parent.mkdir(parents=True, exist_ok=True)
            part = self.note.with_name(f"{NOTE}.{uuid.uuid4().hex[:12]}")
            try:
                part.write_text(json.dumps({**kept, key: entry}, indent=1) + "\n", encoding="utf-8")
                part.replace(self.note)
            finally:
                part.unlink(missing_ok=True)


def file_state(path: Path) -> dict[str, int]:
    found = path.stat()
    return {
        "size": found.st_size,
        "mtime_ns": found.st_mtime_ns,
        "ctime_ns": found.st_ctime_ns,
        "inode": found.st_ino,
        "device": found.st_dev,
    }
