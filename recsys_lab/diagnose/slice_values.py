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

from recsys_lab.ops.query_metrics import metric_names
from recsys_lab.runs.comparison_row import Row, make_row
from recsys_lab.runs.finished import Run, differences, way_out
from recsys_lab.runs.seeds import find_systems
from recsys_lab.statistics.pairs import Method, Pair, Sample, Seeds, correct
from recsys_lab.words import RecsysLabError, resolve_names

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
    return ["warm", "cold"], (facts["target_count"] == 0).cast(pl.Int64).to_numpy()


def event_type(facts: pl.DataFrame) -> Cut:
    """By the type of the target's event."""
    types = facts["event_type"].fill_null("no type")
    names = types.unique().sort()
    return names.to_list(), names.search_sorted(types).to_numpy()


DIMENSIONS: dict[str, tuple[str, Callable[..., Cut]]] = {
    "history_length": ("history_length", history_length),
    "popularity": ("popularity_decile", popularity),
    "gap": ("gap_seconds", gap),
    "repeat": ("is_repeat", repeat),
    "cold": ("target_count", cold),
    "event_type": ("event_type", event_type),
}
"""Name -> the column of ranks.parquet it needs, and how it cuts."""
OF_ALL_DATA = tuple(name for name in DIMENSIONS if name != "event_type")
"""Those that every data set has."""
OF_TARGETS = ("popularity", "repeat", "cold", "event_type")
"""Dimensions that targets of one query need not share."""


@dataclass(frozen=True)
class Part:
    """One variant in one slice."""

    variant: str
    mean: float
    low: float
    high: float
    share_of_metric: float  # of the variant's overall metric; nan where that is 0

    @property
    def spread(self) -> tuple[float, float, float]:
        """The mean with its interval, as tables take it."""
        return self.mean, self.low, self.high


@dataclass(frozen=True)
class Slice:
    dimension: str
    name: str
    targets: int
    users: int
    share_of_targets: float
    parts: list[Part]
    pair: Pair | None = None  # where there are two variants: the one that is better on all targets minus the other

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
    by: Sequence[str] = OF_ALL_DATA,
    metric: str = "ndcg",
    cutoff: int = 10,
    method: Method | None = None,
    bins: Sequence[int] = HISTORY_BINS,
) -> Sliced:
    """Cuts the test targets of finished runs into slices.

    Args:
        runs: on the same targets. Those that are equal in everything but the seed are averaged.
        by: names of `DIMENSIONS`.
        metric: of `QUERY_METRICS`, or the class of a `RankMetric`.
        method: of the intervals. The difference of two variants is tested in each slice by the one rule, Holm-corrected
            over all slices shown.
        bins: smallest lengths of the slices by history length.

    Raises:
        RecsysLabError: for no run, an unknown name, runs on different targets, or runs tested before ranks.parquet held
            what slices need.
    """
    method = method or Method()
    resolve_names(by, DIMENSIONS, "dimension")
    if runs and not runs[0].has_cutoff:
        raise RecsysLabError(f"{runs[0].folder} ranks nothing: `recsys-lab diagnose calibration` cuts a run of clicks")
    (metric,) = metric_names([metric])
    if not runs:
        raise RecsysLabError("no finished run to slice")
    if cutoff < 1 or not bins or min(bins) < 1:
        raise RecsysLabError("the cutoff and the bins must be at least 1")
    if differing := differences(list(runs)):
        raise RecsysLabError(
            "these runs can't be sliced together, they differ in\n  " + "\n  ".join(differing) + f"\n{way_out(runs)}"
        )
    by, left = _shared_by_targets(runs, by)
    _check_columns(runs, by)
    systems, notes = find_systems(runs)
    notes = left + notes
    rows = [make_row(system, cutoff, [metric]) for system in systems]
    per_seed = [np.stack([run.values(metric, cutoff) for run in row.runs]) for row in rows]  # R x (S, N)
    facts = runs[0].units
    user = facts["user_id"].rank("dense").to_numpy()
    cutter = _Cutter(rows, per_seed, user, metric, method)
    cuts = [
        (dimension, *(cut(facts, bins) if cut is history_length else cut(facts)))
        for dimension, cut in ((name, DIMENSIONS[name][1]) for name in dict.fromkeys(by))
    ]
    found = [
        cutter.slice(dimension, label, code == place)
        for dimension, labels, code in cuts
        for place, label in enumerate(labels)
        if (code == place).any()
    ]
    overall = cutter.slice("all", "all", np.ones(len(user), dtype=bool))
    correct([one.pair for one in found if one.pair is not None], method.alpha, metric)
    correct([one.pair for one in [overall] if one.pair is not None], method.alpha, metric)
    notes += [f"{row.variant}: not tested ({row.untested})" for row in rows if row.untested and len(rows) == 2]
    return Sliced(metric, cutoff, method, overall, found, runs[0].evaluation, notes + _notes(runs, by))


class _Cutter:
    """Values of R systems, ready to be cut. per_seed: of each, (S, N) per target; user (N,)."""

    def __init__(
        self, rows: list[Row], per_seed: list[np.ndarray], user: np.ndarray, metric: str, method: Method
    ) -> None:
        self.rows, self.per_seed, self.user, self.metric, self.method = rows, per_seed, user, metric, method
        self.values = np.stack([of.mean(axis=0) for of in per_seed])  # (R, N)
        self.totals = self.values.sum(axis=1)
        self.best_first = (0, 1) if len(rows) != 2 or self.totals[0] >= self.totals[1] else (1, 0)

    def slice(self, dimension: str, name: str, is_in: np.ndarray) -> Slice:
        """is_in: (N,) bool."""
        values = self.values[:, is_in]
        sample = Sample(
            values[:, None, :], self.user[is_in], [self.metric], self.method, [self._seeds(i, is_in) for i in self._all]
        )
        parts = []
        for i, row in enumerate(self.rows):
            low, high = sample.interval(i)[0]
            share = float(values[i].sum() / self.totals[i]) if self.totals[i] else float("nan")
            parts.append(Part(row.variant, float(values[i].mean()), float(low), float(high), share))
        pair = sample.pairs(*self.best_first)[0] if len(self.rows) == 2 else None
        targets = values.shape[1]
        return Slice(dimension, name, targets, len(sample.counts), targets / len(self.user), parts, pair)

    @property
    def _all(self) -> range:
        return range(len(self.rows))

    def _seeds(self, place: int, is_in: np.ndarray) -> Seeds:
        """Of the slice: its variance over seeds is its own."""
        known = self.rows[place].seeds_in([self.metric])
        if known.count < 2:
            return known
        means = self.per_seed[place][:, is_in].mean(axis=1)
        return Seeds(known.count, np.array([means.var(ddof=1) / known.count]), known.untested)


def _shared_by_targets(runs: Sequence[Run], by: Sequence[str]) -> tuple[list[str], list[str]]:
    """The dimensions that each query has one slice of, and a note of the others. A query with several targets has none
    where they differ."""
    kept = [name for name in by if name not in OF_TARGETS]
    if "query" not in runs[0].ranks.columns or len(kept) == len(by):
        return list(by), []
    left = ", ".join(name for name in by if name in OF_TARGETS)
    if not kept:
        raise RecsysLabError(f"queries with several targets can't be cut by {left}: cut them by history_length or gap")
    return kept, [f"not cut by {left}: the targets of one query may differ in that"]


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
    first, notes = runs[0].units, []
    for run in runs[1:]:
        others = [
            column
            for column, cut in (DIMENSIONS[name] for name in dict.fromkeys(by))
            if not first[column].equals(run.units[column])
            and not np.array_equal(cut(first)[1], cut(run.units)[1])  # what was kept of a gap is its slice
        ]
        if others:
            notes.append(f"{run.folder} has other {', '.join(others)}: slices are those of {runs[0].folder}")
    return notes
