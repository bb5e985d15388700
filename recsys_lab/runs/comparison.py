"""One table from several runs: seeds averaged, differences tested by the one rule (`statistics.rule`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from recsys_lab.ops.query_metrics import metric_names
from recsys_lab.runs.comparison_row import SAW_TARGETS, Row, make_row
from recsys_lab.runs.finished import Run, differences, way_out
from recsys_lab.runs.measured import by_task
from recsys_lab.runs.remarks import of_targets, remarks_of_rows
from recsys_lab.runs.seeds import find_systems
from recsys_lab.statistics.pairs import ONE_SEED, Method, Pair, Sample, correct, which_pairs
from recsys_lab.statistics.rule import LEAST_USERS
from recsys_lab.words import LOWER_IS_BETTER, RecsysLabError, did_you_mean

METRICS = ("hit_rate", "ndcg", "mrr")
DECIDING = "ndcg"
OF_CLICKS = ("auc", "log_loss", "gauc", "brier")


@dataclass
class Comparison:
    """What `compare` found; `rows` are sorted by the deciding metric, best first, automatic baselines among them."""

    rows: list[Row]
    cutoff: int
    evaluation: dict[str, Any]
    notes: list[str] = field(default_factory=list)
    metrics: tuple[str, ...] = METRICS
    method: Method = field(default_factory=Method)
    reference: int = 0  # the row that the others are shown against: the baseline, or the best
    has_baseline: bool = False
    pairs: list[Pair] = field(default_factory=list)
    samples: list[tuple[list[int], Sample]] = field(default_factory=list, repr=False)
    """Rows on the same targets, and what their tests were made from: for more tests."""

    @property
    def deciding(self) -> str:
        """The metric that rows are sorted by."""
        return deciding(self.metrics)

    def is_significantly_best(self, row: int) -> bool:
        """Significantly better, in the deciding metric, than every other row; of the baselines that nobody asked for,
        than the best one."""
        others = [i for i, other in enumerate(self.rows) if not other.is_automatic and other.untested != SAW_TARGETS]
        others += [i for i, other in enumerate(self.rows) if other.is_automatic][:1]
        beaten = {
            pair.b
            for pair in self.pairs
            if pair.a == row and pair.metric == self.deciding and pair.is_significant(self.method.alpha)
        }
        return others != [row] and beaten >= set(others) - {row}


def deciding(metrics: Sequence[str]) -> str:
    """ndcg of rankings; else the first. Clicks have an ndcg too, of what was shown, beside metrics of their own."""
    return DECIDING if DECIDING in metrics and not set(OF_CLICKS) & set(metrics) else metrics[0]


def metrics_of(runs: Sequence[Run], asked: Sequence[str] = ()) -> tuple[str, ...]:
    """The metrics of a comparison, the deciding one among them.

    Raises:
        RecsysLabError: for a metric that a ranking or the runs' own task has not.
    """
    known = runs[0].metric_names
    if not known:
        return tuple(metric_names(asked)) or METRICS
    unknown = [name for name in asked if name not in known]
    if unknown:
        raise RecsysLabError(f"unknown metric {', '.join(unknown)!r}; known: {', '.join(known)}")
    return tuple(asked) or known


def compare(
    runs: Sequence[Run],
    cutoff: int = 10,
    force: bool = False,
    baseline: str | None = None,
    metrics: Sequence[str] = (),
    method: Method | None = None,
    automatic: Sequence[Run] = (),
) -> Comparison:
    """Compares finished runs.

    Args:
        runs: as `find_runs` gives them. Those that are equal in everything but the seed are one row. Of runs with
            several tasks (`by_task`) the ranking, or the task of the metrics that are asked for.
        cutoff: K of the metrics.
        force: compare even where data, split, targets or evaluation differ; a note then says in what.
        baseline: a variant, or a run folder of it, that all others are tested against; None tests all pairs, because
            the best row was picked from the same data.
        metrics: which are shown; none = the usual ones; one of your own by its class, `my_package.MyMetric` (a
            `RankMetric`). ndcg, or else the first, decides: it sorts the rows, and its tests are corrected over all
            pairs.
        method: of intervals and tests.
        automatic: baselines on the same targets that take part without being asked for: each is a row, and the best of
            them is tested against every other row.

    Raises:
        RecsysLabError: when there is nothing to compare, or the runs are not comparable, saying in what.
    """
    if not runs:
        raise RecsysLabError("no finished run to compare; `recsys-lab fit RUN_FOLDER` goes on with an interrupted one")
    method = method or Method()
    asked, metrics = max(by_task(runs, metrics), key=lambda one: len(one[0]))  # the first of those with most runs
    runs = [*asked, *automatic]
    metrics = metrics_of(asked, metrics)
    cutoff = cutoff if asked[0].has_cutoff else 0
    if cutoff < 1 and asked[0].has_cutoff:
        raise RecsysLabError(f"the cutoff must be at least 1, got {cutoff}")
    if method.resamples < 100 or not 0 < method.alpha < 1:
        raise RecsysLabError("a comparison needs at least 100 resamples and an alpha between 0 and 1")
    differing = differences(runs)
    if differing and not force:
        raise RecsysLabError(
            "these runs can't be compared, they differ in\n  " + "\n  ".join(differing) + f"\n{way_out(runs)}. Or "
            "compare them all the same with --force, and the table says that they are not comparable"
        )
    for run in asked:
        if not run.ranks.height:
            raise RecsysLabError(f"{run.folder}: {of_targets(run.all_ranks, run.evaluation, cutoff)[0]}")
    systems, notes = find_systems(asked)
    counted, _ = find_systems(automatic)
    rows = [make_row(system, cutoff, metrics) for system in [*systems, *counted]]
    for row in rows[len(systems) :]:
        row.is_automatic = True
    sign = 1 if deciding(metrics) in LOWER_IS_BETTER else -1
    rows.sort(key=lambda row: sign * row.estimates[deciding(metrics)].mean)
    comparison = Comparison(rows, cutoff, asked[0].evaluation, [], metrics, method)
    comparison.reference = next((i for i, row in enumerate(rows) if row.untested != SAW_TARGETS), 0)
    if baseline is not None:
        comparison.reference, comparison.has_baseline = find_row(rows, baseline), True
    comparison.notes += [f"NOT COMPARABLE, {line}" for line in differing] + notes + warnings(rows)
    comparison.notes += remarks_of_rows(rows, deciding(metrics), cutoff)
    _test(comparison)
    return comparison


def find_row(rows: list[Row], name: str) -> int:
    """The row with the variant `name`, or with a run in the folder `name`.

    Raises:
        RecsysLabError: when no row or several are meant.
    """
    folder = Path(name).resolve()
    found = [i for i, row in enumerate(rows) if name in (row.variant, row.label)]
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
    hint = did_you_mean(name, known)
    raise RecsysLabError(f"the baseline {name!r} is not among the runs.{hint} Known: {', '.join(known)}")


def has_row(runs: Sequence[Run], name: str | None) -> bool:
    """Whether one of these is meant by the name of a variant or a folder of its runs."""
    folder = Path(name or "").resolve()
    return name is not None and any(name == one.variant or one.folder.resolve().is_relative_to(folder) for one in runs)


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
    saw = [row.variant for row in rows if row.untested == SAW_TARGETS]
    if saw:
        found.append(f"WARNING: {', '.join(saw)}: trained on events at or after the test targets, so in no test")
    users = min(estimate.users for row in rows for estimate in row.estimates.values())
    if users < LEAST_USERS:
        found.append(f"WARNING: {users} users: with fewer than {LEAST_USERS}, no interval and no p is to be relied on")
    single = [row.variant for row in rows if row.untested == ONE_SEED]
    if single:
        found.append(f"not tested over seeds, because they have one seed: {', '.join(single)}")
    return found


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
        user = rows[members[0]].runs[0].units["user_id"].rank("dense").to_numpy()
        sample = Sample(values, user, metrics, method, [rows[i].seeds_in(metrics) for i in members])
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
    correct(comparison.pairs, method.alpha, comparison.deciding)
    find_against(comparison)
    reference = rows[comparison.reference]
    comparison.notes += [
        f"{row.variant}: other targets than {reference.variant}, so no test"
        for row in rows
        if row is not reference and not row.against and row.runs[0].targets_hash != reference.runs[0].targets_hash
    ]


def find_against(comparison: Comparison) -> None:
    """Each row minus the reference, once the pairs are corrected."""
    for pair in comparison.pairs:
        if pair.b == comparison.reference:
            comparison.rows[pair.a].against[pair.metric] = pair
        elif pair.a == comparison.reference:
            comparison.rows[pair.b].against[pair.metric] = pair.turned(a=pair.b, b=pair.a)
