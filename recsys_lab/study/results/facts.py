"""What run folders hold beside metrics: calibration, and the audit of their data."""

from __future__ import annotations

import hashlib
import json
import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recsys_lab.runs.finished import Run


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


MEASURES = (
    "nll",
    "brier",
    "ece",
    "ece_equal_mass",
    "confidence",
    "top_accuracy",
    "auc_pooled",
    "gauc",
    "probability_share",
)


def read_calibration(row: int, name: str, runs: list[Run]) -> CalibrationEntry | None:
    """From the runs of one variant; None where none of them was measured."""
    before: list[dict[str, float]] = []
    after: list[dict[str, float]] = []
    temperatures: list[float] = []
    bins: dict[str, Any] = {}
    for run in runs:
        fitted = _calibration_file(run)
        measured = {m: run.metrics[f"test/{m}"] for m in MEASURES if f"test/{m}" in run.metrics}
        if "nll" not in measured and fitted:
            measured = fitted["test"]["before"]
        if "nll" in measured:
            before.append(measured)
        if fitted:
            after.append(fitted["test"]["after"])
            temperatures.append(fitted["temperature"])
            bins = bins or fitted["test"].get("bins", {})
    if not before:
        return None
    temperature = statistics.fmean(temperatures) if temperatures else None
    return CalibrationEntry(row, name, len(before), _means(before), _means(after), temperature, bins)


def read_audit(runs: list[Run]) -> AuditFacts:
    """The audit that the manifests of a block name, or the one of the same data and split that lies beside it."""
    entries = [run.manifest["audit"] for run in runs if run.manifest.get("audit")]
    if not entries:
        return AuditFacts(note="no audit of this data was made before the runs: recsys-lab audit")
    entry = next((one for one in entries if not one.get("error")), entries[0])
    if entry.get("error"):
        return AuditFacts(str(entry.get("file", "")), note=str(entry["error"]))
    evaluation, file = runs[0].evaluation, Path(entry["file"])
    notes = ["the runs name different audits"] if len({one.get("sha256") for one in entries}) > 1 else []
    is_same = bool(entry.get("same_data") and entry.get("same_split"))
    if not is_same:
        # what it says of leaks would be said of another split; the one of this split may have been made since
        notes.append("the audit that the runs name is of another version of the data or of another split")
        file = file.with_name(f"audit-{evaluation.get('split_hash')}.json")
    content: dict[str, Any] | None = None
    sha256 = ""
    try:
        written = file.read_bytes()
        sha256 = hashlib.sha256(written).hexdigest()
        found = json.loads(written)
        hashes = (found["dataset"]["data_hash"], found["split"]["split_hash"])
        if hashes == (evaluation.get("data_hash"), evaluation.get("split_hash")):
            content = found
            notes += [f"{file.name} was written after the runs"] * (sha256 != entry.get("sha256"))
        else:
            notes.append(f"{file} is of other data or another split now")
    except (OSError, ValueError, KeyError, TypeError):
        notes += [f"{file} can't be read now"] * is_same
    same_data, same_split = (True, True) if content else (entry.get("same_data"), entry.get("same_split"))
    return AuditFacts(
        str(file), sha256 or str(entry.get("sha256", "")), same_data, same_split, content, "; ".join(notes)
    )


def _calibration_file(run: Run) -> dict[str, Any]:
    """What `diagnose calibration` wrote; empty where it was not run or its file is damaged."""
    try:
        found = json.loads((run.folder / "calibration" / "calibration.json").read_text())
        is_whole = "nll" in found["test"]["before"] and "nll" in found["test"]["after"] and found["temperature"] > 0
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return found if is_whole else {}


def _means(measured: list[dict[str, float]]) -> dict[str, float]:
    return {
        name: statistics.fmean(one[name] for one in measured)
        for name in MEASURES
        if measured and all(isinstance(one.get(name), int | float) for one in measured)
    }
