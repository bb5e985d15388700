"""results.parquet: one row for each finished run of a study, small enough to commit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from recsys_lab.runs.run_files import written
from recsys_lab.study.results.record import Record
from recsys_lab.study.results.study_results import StudyResults

TEXTS = ("model", "loss", "stopped_by", "device", "precision", "started", "commit")
NUMBERS = ("parameters", "epochs", "best_epoch", "train_seconds", "wall_seconds", "tokens_per_second")
EVALUATION = ("dataset", "split", "data_hash", "vocabulary_hash", "split_hash", "exclude_seen", "ties", "cold_targets")


def as_table(results: StudyResults) -> pl.DataFrame:
    """One row for each finished run, counted baselines last. Axis values are in columns `axis/<axis>`, null for
    explicit variants and baselines; metrics are under the names of metrics.json."""
    finished = [record for record in results.records if record.state == "finished"]
    metrics = sorted({name for record in finished for name in record.metrics if name.startswith(("val/", "test/"))})
    rows = [_row(record, results, metrics) for record in finished]
    return pl.DataFrame(rows, infer_schema_length=None)


def write_table(results: StudyResults, path: Path, earlier: pl.DataFrame | None = None) -> None:
    """Whole or not at all. earlier: rows of runs that are not here any more, which come last."""
    tables = [as_table(results), *([earlier] if earlier is not None and len(earlier) else [])]
    with written(path) as partial:
        pl.concat(tables, how="diagonal_relaxed").write_parquet(partial, compression="zstd")


def _row(record: Record, results: StudyResults, metrics: list[str]) -> dict[str, Any]:
    manifest, evaluation = record.manifest, record.evaluation
    row: dict[str, Any] = {"study": results.name, "block": record.block, "variant": record.label, "seed": record.seed}
    row |= {f"axis/{axis}": record.values.get(axis) for axis in results.axes}
    row |= {"is_automatic": record.is_automatic, "identity": record.identity[:16]}
    row |= {name: _text(manifest.get(name)) for name in TEXTS} | {"dirty": record.is_dirty}
    row |= {name: _number(manifest.get(name)) for name in NUMBERS}
    row |= {name: _text(evaluation.get(name)) for name in EVALUATION} | {"retrained": bool(evaluation.get("retrained"))}
    return row | {name: _number(record.metrics.get(name)) for name in metrics}


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None
