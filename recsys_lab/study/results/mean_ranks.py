"""Critical differences: what a rank diagram shows, over data sets; and over users, within one data set."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from scipy import stats

from recsys_lab.runs.comparison import Comparison
from recsys_lab.statistics.letters import groups_of


@dataclass
class CriticalDifference:
    """Places of N systems on a line, and which of them do not differ significantly.

    unit: what the places are means over: `users` (one block) or `data sets`.
    kind: `metric`: places are means of the metric, groups come from the paired tests (larger is better);
        `rank`: places are mean ranks over data sets (1 is best), groups from Nemenyi's critical difference.
    names, places: (N,) best first.
    groups: lists of places in `names`, of systems that do not differ significantly; those of a single system are left
        out.
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


def over_users(comparison: Comparison, names: list[str], metric: str, groups: list[list[int]]) -> CriticalDifference:
    """Within one block: the means of the metric, and the groups of the paired tests.

    Not mean ranks over users: most users' values are ties at 0 there, and ranks test another claim than a difference of
    means does.
    """
    rows = sorted(
        {row for group in groups for row in group}, key=lambda row: -comparison.rows[row].estimates[metric].mean
    )
    place = {row: i for i, row in enumerate(rows)}
    users = max((comparison.rows[row].estimates[metric].users for row in rows), default=0)
    return CriticalDifference(
        unit="users",
        kind="metric",
        metric=metric,
        names=[names[row] for row in rows],
        places=[comparison.rows[row].estimates[metric].mean for row in rows],
        groups=[sorted(place[row] for row in group) for group in groups if len(group) > 1],
        count=users,
    )


def over_data_sets(
    values: dict[str, dict[str, float]], metric: str, protocol: str, blocks: list[str], alpha: float
) -> CriticalDifference | None:
    """Mean ranks over data sets with Nemenyi's critical difference (Demsar, JMLR 2006).

    The unit is the data set: seeds, users and splits of one data set are no independent repetitions of it, so they are
    averaged before anything is ranked.

    Args:
        values: data set -> system -> mean of the metric. Systems that are not in every data set are left out.

    Returns:
        None for fewer than two data sets or two systems.
    """
    systems = [name for name in next(iter(values.values()), {}) if all(name in of for of in values.values())]
    n, k = len(values), len(systems)
    if n < 2 or k < 2:
        return None
    table = np.array([[of[name] for name in systems] for of in values.values()])
    ranks = stats.rankdata(-table, axis=1).mean(axis=0)
    critical = float(stats.studentized_range.ppf(1 - alpha, k, np.inf) / np.sqrt(2) * np.sqrt(k * (k + 1) / (6 * n)))
    order = [int(i) for i in np.argsort(ranks, kind="stable")]
    different = [(i, j) for i in range(k) for j in range(i) if abs(ranks[order[i]] - ranks[order[j]]) > critical]
    groups = [group for group in groups_of(list(range(k)), different) if len(group) > 1]
    note = "" if n >= 5 else f"{n} data sets: few differences can be found with so few"
    if critical > k - 1:
        note = f"{n} data sets are too few for {k} systems: no difference of mean ranks could be significant"
    return CriticalDifference(
        unit="data sets",
        kind="rank",
        metric=metric,
        names=[systems[i] for i in order],
        places=[float(ranks[i]) for i in order],
        groups=groups,
        count=n,
        protocol=protocol,
        blocks=blocks,
        critical_difference=critical,
        p_value=_friedman(stats.rankdata(-table, axis=1)),
        note=note,
    )


def _friedman(ranks: np.ndarray) -> float:
    """ranks (N, k) -> p of the Friedman test in the form of Iman and Davenport (1980), with ties; 1 where all systems
    tie in every data set; where every data set has the same order, for which that form has no value, the chance of it.
    """
    n, k = ranks.shape
    spread = ((ranks - (k + 1) / 2) ** 2).sum()
    if spread == 0:
        return 1.0
    between = n * ((ranks.mean(axis=0) - (k + 1) / 2) ** 2).sum()
    chi = n * (k - 1) * between / spread
    rest = n * (k - 1) - chi
    if rest <= 1e-9:
        return 1 / math.factorial(k) ** (n - 1)
    return float(stats.f.sf((n - 1) * chi / rest, k - 1, (k - 1) * (n - 1)))
