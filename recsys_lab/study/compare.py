"""One table from several runs: metrics with intervals over users, seeds averaged, paired tests against the best."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from recsys_lab.metrics.ranking import RANKING_METRICS
from recsys_lab.schema import RecsysLabError
from recsys_lab.study.runs import TARGET_KEY, Run, differences
from recsys_lab.study.statistics import Estimate, PairedTest, estimate, holm, paired_test

METRICS = ("hit_rate", "ndcg", "mrr")
DECIDING = "ndcg"


@dataclass
class Row:
    """One variant, its seeds averaged."""

    variant: str
    runs: list[Run]
    values: dict[str, np.ndarray]  # metric -> (N,) per target, mean over seeds
    estimates: dict[str, Estimate]
    seed_deviation: dict[str, float | None]  # of the metric over seeds; None for a single seed
    against_best: PairedTest | None = None  # None for the best itself, and where the targets differ
    p_corrected: float = float("nan")

    def mean_of(self, name: str) -> float | None:
        """Mean over seeds of a number in the manifests."""
        found = [run.manifest[name] for run in self.runs if run.manifest.get(name) is not None]
        return statistics.fmean(found) if found else None

    def texts_of(self, name: str) -> str:
        return ", ".join(sorted({str(run.manifest.get(name)) for run in self.runs}))


@dataclass
class Comparison:
    """What `compare` found; `rows` are sorted, the best first."""

    rows: list[Row]
    cutoff: int
    evaluation: dict[str, Any]
    notes: list[str] = field(default_factory=list)


def compare(runs: Sequence[Run], cutoff: int = 10, force: bool = False) -> Comparison:
    """Compares finished runs.

    Args:
        runs: as `find_runs` gives them. Runs of one study, variant, model and loss are seeds of one row.
        cutoff: K of the metrics.
        force: compare even where data, split or evaluation differ; a note then says in what.

    Raises:
        RecsysLabError: when there is nothing to compare, or the runs are not comparable, saying in what.
    """
    runs = list(runs)
    if not runs:
        raise RecsysLabError("no finished run to compare")
    differing = differences(runs)
    if differing and not force:
        raise RecsysLabError(
            "these runs can't be compared, they differ in\n  " + "\n  ".join(differing) + "\nCompare them all the "
            "same with --force"
        )
    groups: dict[tuple[str, ...], list[Run]] = {}
    for run in runs:
        names = (str(run.manifest.get(name)) for name in ("study", "model", "loss"))
        groups.setdefault((run.variant, *names), []).append(run)
    rows = [_row(seeds, cutoff) for seeds in groups.values()]
    rows.sort(key=lambda row: -row.estimates[DECIDING].mean)
    comparison = Comparison(rows, cutoff, runs[0].evaluation, [f"NOT COMPARABLE, {line}" for line in differing])
    _test_against_best(comparison)
    return comparison


def _row(seeds: list[Run], cutoff: int) -> Row:
    first = seeds[0].ranks
    if any(not run.ranks.select(TARGET_KEY).equals(first.select(TARGET_KEY)) for run in seeds):
        raise RecsysLabError(
            f"the seeds of {seeds[0].variant!r} were tested on different targets, so they can't be averaged: "
            + ", ".join(str(run.folder) for run in seeds)
        )
    user = first["user_id"].rank("dense").to_numpy()
    row = Row(seeds[0].variant, seeds, {}, {}, {})
    for name in METRICS:
        per_seed = np.stack([RANKING_METRICS[name](run.ranks["rank"].to_numpy(), cutoff) for run in seeds])  # (S, N)
        row.values[name] = per_seed.mean(axis=0)
        row.estimates[name] = estimate(row.values[name], user)
        row.seed_deviation[name] = float(per_seed.mean(axis=1).std(ddof=1)) if len(seeds) > 1 else None
    return row


def _test_against_best(comparison: Comparison) -> None:
    best, *others = comparison.rows
    targets = best.runs[0].ranks.select(TARGET_KEY)
    user = targets["user_id"].rank("dense").to_numpy()
    for row in others:
        if row.runs[0].ranks.select(TARGET_KEY).equals(targets):
            row.against_best = paired_test(row.values[DECIDING], best.values[DECIDING], user)
        else:
            comparison.notes.append(f"{row.variant}: other targets than {best.variant}, so no paired test")
    tested = [row for row in others if row.against_best is not None]
    p_values = holm([row.against_best.p_value for row in tested if row.against_best is not None])
    for row, p in zip(tested, p_values, strict=True):
        row.p_corrected = p
