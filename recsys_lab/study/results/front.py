"""Quality against cost: who is beaten by nobody that costs as little."""

from __future__ import annotations

from dataclasses import dataclass


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
