"""What run folders hold beside metrics: calibration, and the audit of their data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class CalibrationEntry:
    """Calibration of one variant, mean over the seeds that have it.

    before: nll, brier, ece, ece_equal_mass, ... of the test targets at temperature 1; from metrics.json, or from
        calibration/calibration.json.
    after: the same with the fitted temperature; empty unless `diagnose calibration` was run.
    bins: `equal_width` and `equal_mass` of the first seed that has them, as calibration.json holds them under
        test.bins: {"before": {...}, "after": {...}}; empty otherwise.
    """

    row: int
    name: str
    seeds: int
    before: dict[str, float]
    after: dict[str, float] = field(default_factory=dict)
    temperature: float | None = None
    bins: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class AuditFacts:
    """The audit that the runs of a block name. content: audit.json as `recsys-lab audit` wrote it (see
    report.audit_text), None where it can't be read; note says why, or what is to be known of it."""

    file: str = ""
    sha256: str = ""
    same_data: bool | None = None
    same_split: bool | None = None
    content: dict[str, Any] | None = None
    note: str = ""
