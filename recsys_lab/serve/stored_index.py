"""StoredIndex: the index of a run, built once and kept for the next start.

It lies in the user's cache (`~/.cache/recsys_lab/indexes`) and not in the run folder: Faiss trusts what it reads, and a
run folder may come from a stranger. There is one for each run and kind; that of other vectors takes its place.

<cache>/indexes/<name>.faiss   as Faiss writes it
<cache>/indexes/<name>.json    of what it was made, and the sha256 of the file: written last
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import Any

import numpy as np

from recsys_lab.runs.run_files import file_sha256, read_json, write_json, written
from recsys_lab.runs.user_cache import cache_folder

log = logging.getLogger("recsys_lab")


class StoredIndex:
    """
    Args:
        checkpoint: whose items are indexed.
        kind: of the index, with what its building depends on.
    """

    def __init__(self, checkpoint: Path, kind: str) -> None:
        place = str(checkpoint.resolve())
        name = f"{hashlib.sha256(place.encode()).hexdigest()[:16]}-{kind}"
        self.file = cache_folder() / "indexes" / f"{name}.faiss"
        self._facts_file = self.file.with_suffix(".json")
        self._checkpoint = place

    def read(self, faiss: Any, text: str, vectors: np.ndarray) -> Any:
        """The index; None where none is kept that is of these vectors, made in this way and whole.

        Args:
            text: how Faiss is told to build it. vectors: (N, D) float32, that it is of.
        """
        facts = read_json(self._facts_file)
        if not self.file.is_file() or {**facts, "sha256": ""} != self._facts(faiss, text, vectors):
            return None
        if file_sha256(self.file) != facts.get("sha256"):
            log.warning("%s was changed after it was written: the index is built again", self.file)
            return None
        index = faiss.read_index(str(self.file))
        return index if (index.ntotal, index.d) == vectors.shape else None

    def write(self, faiss: Any, text: str, vectors: np.ndarray, index: Any) -> None:
        """Keeps it; where that can't be, it is built again next time."""
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self._facts_file.unlink(missing_ok=True)
            with written(self.file, unique=True) as partial:
                faiss.write_index(index, str(partial))
                digest = file_sha256(partial)
            write_json(self._facts_file, self._facts(faiss, text, vectors) | {"sha256": digest})
            log.info("the index is kept in %s", self.file)
        except (OSError, RuntimeError) as error:  # Faiss raises the latter
            log.warning("the index is not kept, and built again next time: %s", str(error).splitlines()[0])

    def _facts(self, faiss: Any, text: str, vectors: np.ndarray) -> dict[str, Any]:
        return {
            "checkpoint": self._checkpoint,
            "vectors": list(vectors.shape),
            "vectors_sha256": hashlib.sha256(np.ascontiguousarray(vectors).data).hexdigest(),
            "faiss": faiss.__version__,
            "index": text,
            "sha256": "",
        }
