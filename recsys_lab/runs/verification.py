"""What a finished run says of itself, held against what was computed again: pure comparisons, one `Check` per claim."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from recsys_lab.config import named_today
from recsys_lab.ops.query_metrics import unit_metrics
from recsys_lab.ops.rank_metrics import means
from recsys_lab.runs.ranks_file import TARGET_KEY
from recsys_lab.words import number_of

FROM_VALUES = 1e-6
"""Absolute: weights stand there in float32."""
FROM_RANKS = 1e-12
"""Relative: metrics of the same ranks may differ by the order in which another machine adds them up, not by more."""


@dataclass(frozen=True)
class Check:
    """One claim of a run and whether it holds; `text` says what was found."""

    field: str
    ok: bool
    text: str

    def __str__(self) -> str:
        return f"{'ok    ' if self.ok else 'FAILED'}  {self.field}: {self.text}"


def differs(field: str, expected: Any, found: Any) -> Check:
    """expected: what the run or its manifest says; found: what is there, or came out again."""
    return Check(field, False, f"expected {expected}, found {found}")


def same(field: str, expected: Any, found: Any) -> Check:
    """Exactly equal, as JSON would write the two: a manifest has no tuples. A class may have its name of before."""
    a, b = (json.dumps(named_today(value), sort_keys=True, default=str) for value in (expected, found))
    return Check(field, True, str(found)) if a == b else differs(field, expected, found)


def settings_checks(
    field: str, recorded: Mapping[str, Any], found: Mapping[str, Any], complete: bool = False
) -> list[Check]:
    """One check per setting that was recorded. Settings that came later than the run are not in its manifest.

    Args:
        complete: whether a setting that was not recorded is a fault.
    """
    gone = [name for name in found if complete and name not in recorded]
    checks = [differs(f"{field} {name}", "recorded", "not there") for name in gone]
    return checks + [
        same(f"{field} {name}", value, found.get(name, "no such setting")) for name, value in recorded.items()
    ]


def metric_checks(
    field: str, recorded: Mapping[str, Any], found: Mapping[str, Any], tolerance: float, complete: bool = True
) -> list[Check]:
    """One check per value that differs, is missing or is not known any more; or one for all of them.

    Args:
        tolerance: largest difference, absolute.
        complete: whether a value that was not recorded is a fault; not so for the run of an older version.
    """
    wrong = [
        differs(f"{field}, {name}", recorded.get(name, "none"), found.get(name, "none"))
        for name in [*recorded, *sorted(set(found) - set(recorded) if complete else ())]
        if name not in recorded or name not in found or not _close(recorded[name], found[name], tolerance)
    ]
    return wrong or [Check(field, True, f"{number_of(len(recorded), 'value')} equal")]


def rank_checks(recorded: pl.DataFrame, found: pl.DataFrame, complete: bool, allowed: int = 0) -> list[Check]:
    """ranks.parquet, column by column.

    Args:
        complete: whether a column that was not recorded is a fault.
        allowed: ranks that may differ: near-ties fall otherwise with other matrix kernels.
    """
    field = "ranks.parquet"
    unknown = [name for name in recorded.columns if name not in found.columns]
    missing = [name for name in found.columns if name not in recorded.columns] if complete else []
    checks = [differs(f"{field} {name}", "a column", "none") for name in unknown]
    checks += [differs(f"{field} {name}", "no column", "one") for name in missing]
    if recorded.height != found.height:
        return [*checks, differs(f"{field} rows", recorded.height, found.height)]
    shared = [name for name in found.columns if name in recorded.columns]
    for name in shared:
        rows = _differing(recorded[name], found[name])
        if not len(rows):
            checks.append(Check(f"{field} {name}", True, f"{found.height} of {found.height} rows equal"))
            continue
        first = int(rows[0])
        target = ", ".join(f"{key} {found[key][first]}" for key in TARGET_KEY)
        text = (
            f"expected {recorded[name][first]}, found {found[name][first]} in row {first} ({target}); {len(rows)} of "
            f"{found.height} rows differ"
        )
        may = name in ("rank", "num_greater", "num_ties") and len(rows) <= allowed
        checks.append(Check(f"{field} {name}", may, f"{text}, {allowed} may" if may else text))
    return checks


def from_ranks(ranks: pl.DataFrame, evaluation: Mapping[str, Any]) -> dict[str, float]:
    """The `test/` metrics that `ranks` alone decide, as the evaluation computes them."""
    metrics = means(_values_of(ranks, evaluation))
    if ranks.height:
        metrics["cold_target_share"] = float(ranks["is_cold"].to_numpy().mean())
        metrics["hidden_target_share"] = float(ranks["is_hidden"].to_numpy().mean())
    return {f"test/{name}": value for name, value in metrics.items()}


def from_ranks_checks(metrics: Mapping[str, Any], recomputed: Mapping[str, float]) -> list[Check]:
    """metrics.json against `from_ranks`. Metrics that need more than the ranks are not looked at."""
    recorded = {name: metrics[name] for name in recomputed if name in metrics}
    tolerance = FROM_RANKS * max([1.0, *map(abs, recomputed.values())])
    return metric_checks("metrics.json from ranks.parquet", recorded, recomputed, tolerance)


def from_values_checks(metrics: Mapping[str, Any], path: Path) -> list[Check]:
    """The `test/` metrics of a task that does not rank, against the weighted means of values.parquet."""
    units = pl.read_parquet(path).filter(pl.col("unit").is_not_null()).with_columns(pl.col("metric").cast(pl.String))
    value, weight = pl.col("value"), pl.col("weight").cast(pl.Float64)
    means = units.group_by("metric", maintain_order=True).agg((value * weight).sum() / weight.sum())
    found = {f"test/{name}": mean for name, mean in means.iter_rows()}
    recorded = {name: metrics.get(name) for name in found}
    return metric_checks("metrics.json from values.parquet", recorded, found, FROM_VALUES)


def values_checks(values: pl.DataFrame, ranks: pl.DataFrame, evaluation: Mapping[str, Any]) -> list[Check]:
    """values.parquet against what the ranks say of each target."""
    checks = []
    for name, expected in _values_of(ranks, evaluation).items():
        found = values.filter(pl.col("metric").cast(pl.String) == name)["value"].to_numpy()
        equal = len(found) == len(expected) and np.array_equal(found, expected)
        checks.append(Check(f"values.parquet {name}", equal, "as the ranks say" if equal else "differs from the ranks"))
    return checks


def _values_of(ranks: pl.DataFrame, evaluation: Mapping[str, Any]) -> dict[str, np.ndarray]:
    counted = ranks.filter(~pl.col("is_cold")) if evaluation.get("cold_targets") == "drop" else ranks
    greater, ties, candidates = (counted[name].to_numpy() for name in ("num_greater", "num_ties", "num_candidates"))
    query = counted["query"].to_numpy() if "query" in counted.columns else None
    return unit_metrics(greater, ties, candidates, query, evaluation.get("cutoffs") or ())


def epoch_checks(metrics: Mapping[str, Any], rows: list[dict[str, Any]]) -> list[Check]:
    """The `val/` and `train/` part of metrics.json against the rows of metrics.csv: it is that of one epoch."""
    field = "metrics.json from metrics.csv"
    row = next((row for row in rows if row.get("epoch") == metrics.get("epoch")), None)
    if row is None:
        return [differs(f"{field}, epoch", metrics.get("epoch"), "no such epoch")]
    recorded = {name: value for name, value in metrics.items() if not name.startswith("test/")}
    expected = {name: value for name, value in row.items() if name == "epoch" or name.startswith(("train/", "val/"))}
    return metric_checks(field, recorded, expected, 0.0)


def _close(a: Any, b: Any, tolerance: float) -> bool:
    if not all(isinstance(value, int | float) for value in (a, b)):
        return bool(a == b)
    return (math.isnan(a) and math.isnan(b)) or a == b or abs(a - b) <= tolerance


def _differing(recorded: pl.Series, found: pl.Series) -> np.ndarray:
    """Rows in which two columns differ; null equals null, and so does nan."""
    if recorded.dtype != found.dtype:
        return np.arange(len(found))
    return np.flatnonzero(recorded.ne_missing(found).to_numpy())
