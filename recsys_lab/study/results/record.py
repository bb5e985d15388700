"""One planned run: what it was, where it stands, what came out."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Record:
    """One planned run of a study; a row of results.parquet where it is finished.

    name: of its variant as tables show it: the axis values that differ inside its block.
    values: axis -> label of its value; empty for an explicit variant and for a counted baseline.
    block: `Block.key`; empty for a run that is not finished.
    metrics: of metrics.json: `val/ndcg@10` at the best epoch, `test/ndcg@10`, `train/loss`, ...
    reason: why there is no result, for a run that is not finished.
    """

    label: str
    name: str
    values: dict[str, str]
    seed: int
    state: str  # finished | failed | interrupted | running | missing | unreadable: finished, but its files are damaged
    folder: Path
    identity: str = ""
    block: str = ""
    is_automatic: bool = False  # a counted baseline that nobody asked for
    manifest: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    reason: str = ""

    @property
    def evaluation(self) -> dict[str, Any]:
        found: dict[str, Any] = self.manifest.get("evaluation") or {}
        return found

    @property
    def commit(self) -> str:
        """Of the code; empty where the manifest has none."""
        return str(self.manifest.get("commit") or "")

    @property
    def is_dirty(self) -> bool:
        """The code had changes that were not committed."""
        return bool(self.manifest.get("dirty"))

    @property
    def command(self) -> str:
        return str(self.manifest.get("command") or "")
