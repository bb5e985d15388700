"""The outcome of an evaluation as one table: user, unit, metric, value, weight. Statistics read nothing else.

A unit is what a metric is a mean over: a target of next-item ranking, by its position in the data. A metric that is of
the whole set of targets and no mean over units (a share, a coverage) is one row without user, unit and weight: it is
shown, and takes part in no test.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from recsys_lab.contracts import UnitMetric


def unit_values(
    user: np.ndarray, unit: np.ndarray, of_units: Mapping[str, np.ndarray | UnitMetric], of_all: Mapping[str, float]
) -> pl.DataFrame:
    """The rows of `values.parquet`, metric by metric.

    Args:
        user: (N,) row of the user in the prepared data. unit: (N,) int64, ascending.
        of_units: metric -> (N,) values, each of weight 1, or values with their weights.
        of_all: metric -> its value in metrics.json; those of `of_units` are left out, since they are its means.

    Returns:
        `user` int32, `unit` int64, `metric`, `value` float64, `weight` float32.
    """
    each = {"user": user.astype(np.int32), "unit": unit}
    kind = pl.Enum([*of_units, *(name for name in of_all if name not in of_units)])
    tables = []
    for name, of in of_units.items():
        value, weight = of if isinstance(of, tuple) else UnitMetric(of)
        weight = np.ones(len(unit), dtype=np.float32) if weight is None else weight.astype(np.float32)
        table = pl.DataFrame({**each, "weight": weight, "value": value.astype(np.float64)})
        tables.append(table.with_columns(metric=pl.lit(name, dtype=kind)))
    rest = {name: float(value) for name, value in of_all.items() if name not in of_units}
    columns: dict[str, Any] = {
        "user": pl.Int32,
        "unit": pl.Int64,
        "metric": kind,
        "value": pl.Float64,
        "weight": pl.Float32,
    }
    whole = pl.DataFrame({"metric": list(rest), "value": list(rest.values())}, {"metric": kind, "value": pl.Float64})
    return pl.concat([pl.DataFrame(schema=columns), *tables, whole], how="diagonal")


def joined_values(tables: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """The rows of several evaluations of one run."""
    if len(tables) == 1:
        return tables[0]
    joined = pl.concat([table.with_columns(pl.col("metric").cast(pl.String)) for table in tables])
    return joined.with_columns(pl.col("metric").cast(pl.Categorical))
