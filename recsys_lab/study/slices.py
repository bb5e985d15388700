"""Where a metric comes from: the test targets cut into slices, and the metric of each with its interval over users.

Each dimension puts every target into exactly one slice, so the slices' means weighted by their shares of the targets
are the overall metric.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from recsys_lab.metrics.ranking import RANKING_METRICS
from recsys_lab.schema import RecsysLabError, resolve_names
from recsys_lab.study.compare import group_seeds
from recsys_lab.study.pairs import Method, Pair, Sample, correct
from recsys_lab.study.runs import Run, differences
from recsys_lab.study.statistics import estimate

HISTORY_BINS = (1, 5, 10, 20, 50, 100, 200)
GAPS = ((0, "same time"), (60, "minute"), (3600, "hour"), (86400, "day"), (7 * 86400, "week"), (30 * 86400, "month"))
"""Longest gap in seconds, and what it is called: `minute` is more than 0 and at most 60 seconds."""
FEW_USERS = 30
"""Below it an interval over users is not to be relied on."""

Cut = tuple[list[str], np.ndarray]
"""Names of the slices in their order, and (N,) int: the slice of each target."""


def history_length(facts: pl.DataFrame, bins: Sequence[int] = HISTORY_BINS) -> Cut:
    """By the user's earlier events; `bins` are the smallest lengths of the slices."""
    lows = np.array(sorted({0, 1, *bins}))
    names = [f"{low}" if low + 1 == high else f"{low}-{high - 1}" for low, high in zip(lows, lows[1:], strict=False)]
    return [*names, f"{lows[-1]}+"], np.searchsorted(lows, facts["history_length"].to_numpy(), side="right") - 1


def popularity(facts: pl.DataFrame) -> Cut:
    """By the decile of the target item's training events: 1 = the least popular tenth of the items, 10 = the most."""
    return ["cold", *map(str, range(1, 11))], facts["popularity_decile"].fill_null(0).to_numpy()


def gap(facts: pl.DataFrame) -> Cut:
    """By the time since the user's last event."""
    seconds = facts["gap_seconds"]
    code = np.searchsorted([longest for longest, _ in GAPS], seconds.fill_null(0).to_numpy())
    return [*(name for _, name in GAPS), "longer", "no time"], np.where(seconds.is_null(), len(GAPS) + 1, code)


def repeat(facts: pl.DataFrame) -> Cut:
    """By whether the user has had the target before."""
    return ["explore", "repeat"], facts["is_repeat"].cast(pl.Int64).to_numpy()


def cold(facts: pl.DataFrame) -> Cut:
    """By whether the target has training events."""
    return ["warm", "cold"], facts["is_cold"].cast(pl.Int64).to_numpy()


DIMENSIONS: dict[str, tuple[str, Callable[..., Cut]]] = {
    "history_length": ("history_length", history_length),
    "popularity": ("popularity_decile", popularity),
    "gap": ("gap_seconds", gap),
    "repeat": ("is_repeat", repeat),
    "cold": ("is_cold", cold),
}
"""Name -> the column of ranks.parquet it needs, and how it cuts."""


@dataclass(frozen=True)
class Part:
    """One variant in one slice."""

    variant: str
    mean: float
    low: float
    high: float
    share_of_metric: float  # of the variant's overall metric; nan where that is 0


@dataclass(frozen=True)
class Slice:
    dimension: str
    name: str
    targets: int
    users: int
    share_of_targets: float
    parts: list[Part]
    pair: Pair | None = None  # the second variant minus the first, where there are two

    @property
    def is_small(self) -> bool:
        return self.users < FEW_USERS


@dataclass
class Sliced:
    """What `slices` found."""

    metric: str
    cutoff: int
    method: Method
    overall: Slice
    slices: list[Slice]
    evaluation: dict[str, Any]
    notes: list[str] = field(default_factory=list)

    @property
    def variants(self) -> list[str]:
        return [part.variant for part in self.overall.parts]


def slices(
    runs: Sequence[Run],
    by: Sequence[str] = tuple(DIMENSIONS),
    metric: str = "ndcg",
    cutoff: int = 10,
    method: Method | None = None,
    bins: Sequence[int] = HISTORY_BINS,
) -> Sliced:
    """Cuts the test targets of finished runs into slices.

    Args:
        runs: on the same targets. Runs of one study, variant, model and loss are seeds, and averaged.
        by: names of `DIMENSIONS`.
        metric: a name of `RANKING_METRICS`.
        method: of the intervals. With two variants their difference is tested in each slice, paired over users,
            Holm-corrected over all slices shown.
        bins: smallest lengths of the slices by history length.

    Raises:
        RecsysLabError: for no run, an unknown name, runs on different targets, or runs tested before ranks.parquet held
            what slices need.
    """
    method = method or Method()
    resolve_names(by, DIMENSIONS, "dimension")
    resolve_names([metric], RANKING_METRICS, "metric")
    if not runs:
        raise RecsysLabError("no finished run to slice")
    if cutoff < 1 or not bins or min(bins) < 1:
        raise RecsysLabError("the cutoff and the bins must be at least 1")
    if differing := differences(list(runs)):
        raise RecsysLabError("these runs can't be sliced together, they differ in\n  " + "\n  ".join(differing))
    _check_columns(runs, by)
    groups = group_seeds(runs)
    values = np.stack(
        [np.mean([RANKING_METRICS[metric](r.ranks["rank"].to_numpy(), cutoff) for r in g], axis=0) for g in groups]
    )  # (R, N)
    facts, names = runs[0].ranks, [group[0].variant for group in groups]
    user = facts["user_id"].rank("dense").to_numpy()
    cuts = [
        (dimension, *(cut(facts, bins) if cut is history_length else cut(facts)))
        for dimension, cut in ((name, DIMENSIONS[name][1]) for name in dict.fromkeys(by))
    ]
    totals = values.sum(axis=1)
    found = [
        _slice(
            dimension, label, values[:, code == place], user[code == place], names, metric, method, totals, len(user)
        )
        for dimension, labels, code in cuts
        for place, label in enumerate(labels)
        if (code == place).any()
    ]
    overall = _slice("all", "all", values, user, names, metric, method, totals, len(user))
    correct([one.pair for one in found if one.pair is not None], method.alpha)
    return Sliced(metric, cutoff, method, overall, found, runs[0].evaluation, _notes(runs, by))


def _slice(
    dimension: str,
    name: str,
    values: np.ndarray,
    user: np.ndarray,
    variants: list[str],
    metric: str,
    method: Method,
    totals: np.ndarray,
    num_targets: int,
) -> Slice:
    """values (R, n) of the slice's targets, user (n,); totals (R,) of all targets."""
    sample = Sample(values[:, None, :], user, [metric], method)
    parts = []
    for row, variant in enumerate(variants):
        low, high = sample.interval(row)[0]
        share = float(values[row].sum() / totals[row]) if totals[row] else float("nan")
        parts.append(Part(variant, estimate(values[row], user).mean, float(low), float(high), share))
    pair = sample.pairs(1, 0)[0] if len(variants) == 2 else None
    targets = values.shape[1]
    return Slice(dimension, name, targets, len(sample.counts), targets / num_targets, parts, pair)


def _check_columns(runs: Sequence[Run], by: Sequence[str]) -> None:
    for run in runs:
        missing = [DIMENSIONS[name][0] for name in by if DIMENSIONS[name][0] not in run.ranks.columns]
        if missing:
            raise RecsysLabError(
                f"{run.folder}/ranks.parquet has no column {', '.join(missing)}: the run was tested by an older "
                f"version. Run `recsys-lab test {run.folder}` again and slice {run.folder / 'test'}"
            )


def _notes(runs: Sequence[Run], by: Sequence[str]) -> list[str]:
    """Runs may have the same targets and yet have been trained on other events, where the popularity is another."""
    first, notes = runs[0].ranks, []
    for run in runs[1:]:
        others = [
            column
            for column, cut in (DIMENSIONS[name] for name in dict.fromkeys(by))
            if not first[column].equals(run.ranks[column])
            and not np.array_equal(cut(first)[1], cut(run.ranks)[1])  # what was kept of a gap is its slice
        ]
        if others:
            notes.append(f"{run.folder} has other {', '.join(others)}: slices are those of {runs[0].folder}")
    return notes
