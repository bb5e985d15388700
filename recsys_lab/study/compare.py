"""One table from several runs: metrics with intervals over users, seeds averaged, paired tests."""

from __future__ import annotations

import difflib
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from recsys_lab.metrics.ranking import RANKING_METRICS
from recsys_lab.schema import RecsysLabError
from recsys_lab.study.pairs import Method, Pair, Sample, correct, which_pairs
from recsys_lab.study.runs import Run, differences
from recsys_lab.study.statistics import Estimate, estimate

METRICS = ("hit_rate", "ndcg", "mrr")
DECIDING = "ndcg"


@dataclass(eq=False)
class Row:
    """One variant, its seeds averaged."""

    variant: str
    runs: list[Run]
    values: dict[str, np.ndarray]  # metric -> (N,) per target, mean over seeds
    estimates: dict[str, Estimate]
    seed_deviation: dict[str, float | None]  # of the metric over seeds; None for a single seed
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)  # over users, low and high
    against: dict[str, Pair] = field(default_factory=dict)  # metric -> this minus the reference, where targets agree
    is_automatic: bool = False  # a baseline that takes part without being asked for

    @property
    def is_counted(self) -> bool:
        """A model that counts: every seed gives the same."""
        return all(run.manifest.get("stopped_by") == "counted" for run in self.runs)

    def mean_of(self, name: str) -> float | None:
        """Mean over seeds of a number in the manifests."""
        found = [run.manifest[name] for run in self.runs if run.manifest.get(name) is not None]
        return statistics.fmean(found) if found else None

    def texts_of(self, name: str) -> str:
        return ", ".join(sorted({str(run.manifest.get(name)) for run in self.runs}))


@dataclass
class Comparison:
    """What `compare` found; `rows` are sorted by the deciding metric, best first, automatic baselines among them."""

    rows: list[Row]
    cutoff: int
    evaluation: dict[str, Any]
    notes: list[str] = field(default_factory=list)
    metrics: tuple[str, ...] = METRICS
    method: Method = field(default_factory=Method)
    reference: int = 0  # the row that the others are tested against: the baseline, or the best
    has_baseline: bool = False
    pairs: list[Pair] = field(default_factory=list)
    samples: list[tuple[list[int], Sample]] = field(default_factory=list, repr=False)
    """Rows on the same targets, and what their tests were made from: for more tests."""

    @property
    def deciding(self) -> str:
        """The metric that rows are sorted by."""
        return deciding(self.metrics)

    def is_clearly_best(self, row: int, metric: str) -> bool:
        """Best by more than a seed standard deviation of either, and not by chance where the two were tested. A single
        seed says nothing of seeds, so it is never clearly best."""
        means = [r.estimates[metric].mean for r in self.rows]
        others = [i for i in range(len(means)) if i != row]
        if not others or means[row] < max(means):
            return False
        second = max(others, key=lambda i: means[i])
        spread = [0.0 if self.rows[i].is_counted else self.rows[i].seed_deviation[metric] for i in (row, second)]
        tested = [p for p in self.pairs if {p.a, p.b} == {row, second} and p.metric == metric]
        return all(sd is not None and means[row] - means[second] > sd for sd in spread) and all(
            p.p_corrected < self.method.alpha for p in tested
        )


def deciding(metrics: Sequence[str]) -> str:
    return DECIDING if DECIDING in metrics else metrics[0]


def compare(
    runs: Sequence[Run],
    cutoff: int = 10,
    force: bool = False,
    baseline: str | None = None,
    metrics: Sequence[str] = METRICS,
    method: Method | None = None,
    automatic: Sequence[Run] = (),
) -> Comparison:
    """Compares finished runs.

    Args:
        runs: as `find_runs` gives them. Runs of one study, variant, model and loss are seeds of one row.
        cutoff: K of the metrics.
        force: compare even where data, split, targets or evaluation differ; a note then says in what.
        baseline: a variant, or a run folder of it, that all others are tested against; None tests all pairs, because
            the best row was picked from the same data.
        metrics: which are shown, and so corrected for.
        method: of intervals and tests.
        automatic: baselines on the same targets that take part without being asked for: each is a row, and the best of
            them is tested against every other row.

    Raises:
        RecsysLabError: when there is nothing to compare, or the runs are not comparable, saying in what.
    """
    asked, metrics, method = list(runs), tuple(metrics), method or Method()
    if not asked:
        raise RecsysLabError("no finished run to compare")
    runs = [*asked, *automatic]
    unknown = [name for name in metrics if name not in RANKING_METRICS]
    if unknown or not metrics:
        raise RecsysLabError(f"unknown metric {', '.join(unknown)!r}; known: {', '.join(RANKING_METRICS)}")
    if cutoff < 1:
        raise RecsysLabError(f"the cutoff must be at least 1, got {cutoff}")
    if method.draws < 100 or not 0 < method.alpha < 1:
        raise RecsysLabError("a comparison needs at least 100 resamples and an alpha between 0 and 1")
    differing = differences(runs)
    if differing and not force:
        raise RecsysLabError(
            "these runs can't be compared, they differ in\n  " + "\n  ".join(differing) + "\nCompare them all the "
            "same with --force"
        )
    rows = [_row(seeds, cutoff, metrics) for seeds in group_seeds(asked)]
    for seeds in group_seeds(automatic):
        rows.append(_row(seeds, cutoff, metrics))
        rows[-1].is_automatic = True
    rows.sort(key=lambda row: -row.estimates[deciding(metrics)].mean)
    comparison = Comparison(rows, cutoff, asked[0].evaluation, [], metrics, method)
    comparison.reference = next(i for i, row in enumerate(rows) if not row.is_automatic)
    if baseline is not None:
        comparison.reference, comparison.has_baseline = find_row(rows, baseline), True
    comparison.notes += [f"NOT COMPARABLE, {line}" for line in differing] + warnings(rows)
    _test(comparison)
    return comparison


def group_seeds(runs: Sequence[Run]) -> list[list[Run]]:
    """Runs of one study, variant, model and loss together; those that trained on the validation part apart."""
    groups: dict[tuple[str, ...], list[Run]] = {}
    for run in runs:
        names = (str(run.manifest.get(name)) for name in ("study", "model", "loss"))
        groups.setdefault((run.variant, *names, str(run.is_retrained)), []).append(run)
    return list(groups.values())


def find_row(rows: list[Row], name: str) -> int:
    """The row with the variant `name`, or with a run in the folder `name`.

    Raises:
        RecsysLabError: when no row or several are meant.
    """
    folder = Path(name).resolve()
    found = [i for i, row in enumerate(rows) if row.variant == name]
    found = found or [
        i for i, row in enumerate(rows) if any(r.folder.resolve().is_relative_to(folder) for r in row.runs)
    ]
    if len(found) == 1:
        return found[0]
    known = sorted({row.variant for row in rows})
    if found:
        raise RecsysLabError(
            f"baseline {name!r} is {len(found)} of the rows; give the folder of one of its runs: "
            + ", ".join(str(rows[i].runs[0].folder) for i in found)
        )
    close = difflib.get_close_matches(name, known, 1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise RecsysLabError(f"the baseline {name!r} is not among the runs.{hint} Known: {', '.join(known)}")


def warnings(rows: list[Row]) -> list[str]:
    """What a reader of the table should know before believing it."""
    found = []
    by_item = [row.variant for row in rows if any(run.evaluation.get("tie_order") == "item_id" for run in row.runs)]
    if by_item:
        found.append(
            f"WARNING: tie_order item_id in {', '.join(by_item)}: events of equal time are in the order of item ids, "
            "which can inflate the metrics (ndcg on MovieLens-1M by about 20 %); prepare with tie_order file or hash"
        )
    retrained = [row.variant for row in rows if row.runs[0].is_retrained]
    if 0 < len(retrained) < len(rows):
        found.append(
            f"WARNING: {', '.join(retrained)}: trained on the validation part too (retrained), the other rows not: "
            "more and newer data can be all of the difference"
        )
    for row in rows:
        seeds = Counter(run.manifest.get("seed") for run in row.runs)
        twice = [str(seed) for seed, count in seeds.items() if count > 1 and seed is not None]
        if twice:
            found.append(f"WARNING: {row.variant} holds seed {', '.join(twice)} more than once: its sd is too small")
    counts = {row.variant: len(row.runs) for row in rows if not row.is_counted}
    if len(set(counts.values())) > 1 or set(counts.values()) == {1}:
        few = ", ".join(variant for variant, count in counts.items() if count == 1)
        if few:
            found.append(f"a single seed says nothing of the spread over seeds: {few}")
    return found


def _row(seeds: list[Run], cutoff: int, metrics: Sequence[str]) -> Row:
    first = seeds[0].ranks
    if any(run.targets_hash != seeds[0].targets_hash for run in seeds):
        raise RecsysLabError(
            f"the seeds of {seeds[0].variant!r} were tested on different targets, so they can't be averaged: "
            + ", ".join(str(run.folder) for run in seeds)
        )
    user = first["user_id"].rank("dense").to_numpy()
    row = Row(seeds[0].variant, seeds, {}, {}, {})
    for name in metrics:
        per_seed = np.stack([RANKING_METRICS[name](run.ranks["rank"].to_numpy(), cutoff) for run in seeds])  # (S, N)
        row.values[name] = per_seed.mean(axis=0)
        row.estimates[name] = estimate(row.values[name], user)
        row.seed_deviation[name] = float(per_seed.mean(axis=1).std(ddof=1)) if len(seeds) > 1 else None
    return row


def _test(comparison: Comparison) -> None:
    """Fills in intervals and pairs; rows on other targets than each other are not paired."""
    rows, metrics, method = comparison.rows, comparison.metrics, comparison.method
    groups: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        groups.setdefault(row.runs[0].targets_hash, []).append(i)
    unasked = [i for i, row in enumerate(rows) if row.is_automatic]
    wanted = which_pairs(len(rows), comparison.reference if comparison.has_baseline else None, unasked)
    for members in groups.values():
        values = np.stack([np.stack([rows[i].values[name] for name in metrics]) for i in members])
        for place, i in enumerate(members):
            rows[i].values = dict(zip(metrics, values[place], strict=True))  # one copy of them in memory, not two
        user = rows[members[0]].runs[0].ranks["user_id"].rank("dense").to_numpy()
        sample = Sample(values, user, metrics, method)
        comparison.samples.append((members, sample))
        place_of = {i: place for place, i in enumerate(members)}
        for i, place in place_of.items():
            ends = sample.interval(place)
            rows[i].intervals = {name: (float(e[0]), float(e[1])) for name, e in zip(metrics, ends, strict=True)}
        for a, b in wanted:
            if a in place_of and b in place_of:
                for pair in sample.pairs(place_of[a], place_of[b]):
                    pair.a, pair.b = a, b
                    comparison.pairs.append(pair)
    correct(comparison.pairs, method.alpha)
    for pair in comparison.pairs:
        if pair.b == comparison.reference:
            rows[pair.a].against[pair.metric] = pair
    reference = rows[comparison.reference]
    comparison.notes += [
        f"{row.variant}: other targets than {reference.variant}, so no paired test"
        for row in rows
        if row is not reference and not row.against and row.runs[0].targets_hash != reference.runs[0].targets_hash
    ]
    least = len(comparison.pairs) / (method.draws + 1)
    if method.test != "t" and least > method.alpha:
        comparison.notes.append(
            f"{method.draws} resamples can't show any of {len(comparison.pairs)} differences at {method.alpha} after "
            f"correction: take at least {round(10 * len(comparison.pairs) / method.alpha)} (--resamples)"
        )
