"""Quality against cost: who is beaten by nobody that costs as little."""

from __future__ import annotations

from dataclasses import dataclass

from recsys_lab.runs.comparison import Comparison


@dataclass(frozen=True)
class FrontPoint:
    """One row of a comparison. is_on_front: no other row is at least as good and as cheap, and better in one."""

    row: int
    name: str
    cost: float
    value: float
    low: float
    high: float
    is_on_front: bool


@dataclass(frozen=True)
class Front:
    """cost: `train_seconds` (mean over seeds, until the fit ended) or `parameters`; rows without that are left out."""

    cost: str
    metric: str
    points: list[FrontPoint]


def find_front(comparison: Comparison, names: list[str], cost: str, metric: str) -> Front:
    """The front of the means; `names` of the rows."""
    found = []
    for i, row in enumerate(comparison.rows):
        spent = row.mean_of(cost)
        if spent is not None:
            found.append((i, spent, row.estimates[metric].mean))
    best, cheapest = float("-inf"), float("nan")
    on_front = set()
    for i, spent, value in sorted(found, key=lambda one: (one[1], -one[2])):
        if value > best or (value == best and spent == cheapest):  # an equal one at the same cost is on it too
            on_front.add(i)
            best, cheapest = value, spent
    points = [
        FrontPoint(i, names[i], spent, value, *comparison.rows[i].intervals[metric], i in on_front)
        for i, spent, value in found
    ]
    return Front(cost, metric, points)
