"""The audit of the data that the runs of a block name."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recsys_lab.runs.finished import Run


@dataclass(frozen=True)
class AuditFacts:
    """content: audit.json as `recsys-lab audit` wrote it (see `audit.audit_text`); None where there is none of this
    data and split: `note` then says why."""

    file: str = ""
    content: dict[str, Any] | None = None
    note: str = ""


def read_audit(runs: list[Run]) -> AuditFacts:
    """The audit that the manifests of a block name, or the one of the same split that lies beside it."""
    entries = [run.manifest["audit"] for run in runs if run.manifest.get("audit")]
    if not entries:
        name = runs[0].evaluation.get("dataset", "DATASET")
        return AuditFacts(
            note=f"no audit of this data was made before the runs; `recsys-lab audit {shlex.quote(name)}` makes one"
        )
    data, split = (runs[0].evaluation.get(name) for name in ("data_hash", "split_hash"))
    named = [Path(file) for file in dict.fromkeys(entry["file"] for entry in entries if entry.get("file"))]
    for file in (one for path in named for one in (path, path.with_name(f"audit-{split}.json"))):
        try:
            found = json.loads(file.read_bytes())
            if (found["dataset"]["data_hash"], found["split"]["split_hash"]) == (data, split):
                return AuditFacts(str(file), found)
        except (OSError, ValueError, KeyError, TypeError):
            continue
    error = next((str(entry["error"]) for entry in entries if entry.get("error")), "")
    return AuditFacts(note=error or f"{', '.join(map(str, named))}: no audit of this data and this split")
