"""Critical differences: what a rank diagram shows, over data sets; and over users, within one data set."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class CriticalDifference:
    """Places of N systems on a line, and which of them can't be told apart.

    unit: what the places are means over: `users` (one block) or `data sets`.
    kind: `metric`: places are means of the metric, groups come from the paired tests (larger is better);
        `rank`: places are mean ranks over data sets (1 is best), groups from Nemenyi's critical difference.
    names, places: (N,) best first.
    groups: lists of places in `names`, of systems that are not told apart; those of a single system are left out.
    critical_difference: of mean ranks; None for `metric`.
    p_value: of the Friedman test in Iman and Davenport's form; None for `metric`.
    """

    unit: str
    kind: str
    metric: str
    names: list[str]
    places: list[float]
    groups: list[list[int]]
    count: int  # of units
    protocol: str = ""  # what the units share; for data sets: the split
    blocks: list[str] = field(default_factory=list)  # keys of the blocks that are the units
    critical_difference: float | None = None
    p_value: float | None = None
    note: str = ""
