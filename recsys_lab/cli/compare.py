"""`recsys-lab compare` and `recsys-lab slices`: tables of finished runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Literal

from recsys_lab.arguments import Count, Level, Seed
from recsys_lab.cli.table_options import TableOptions
from recsys_lab.cli.typed import OneOf

Metric = Annotated[str, OneOf("recsys_lab.ops.query_metrics:QUERY_METRICS", or_class=True)]
Dimension = Annotated[str, OneOf("recsys_lab.diagnose.slice_values:DIMENSIONS")]
Format = Annotated[str, OneOf("recsys_lab.runs.comparison_table:FORMATS")]
Interval = Literal["bca", "percentile", "t"]


def compare(
    runs: Sequence[str],
    *,
    baseline: str | None = None,
    format: Format = "text",
    table: TableOptions,
    pairs: bool = False,
    cutoff: Count = 10,
    metrics: Sequence[str] = (),
    interval: Interval = "bca",
    resamples: Count = 2_000,
    alpha: Level = 0.05,
    seed: Seed = 0,
    baselines: Sequence[str] = (),
    no_baselines: bool = False,
    data_dir: str | None = None,
    force: bool = False,
) -> None:
    """Compares runs that were tested on the same data, split and evaluation settings; runs that are equal in everything
    but the seed are averaged. Every pair of variants is tested, or each with the --baseline: over users and seeds,
    Holm-corrected over all pairs in the deciding metric (ndcg, or else the first of --metrics). A variant with one seed
    is not tested. Untrained baselines (popularity, Markov, nearest neighbours, EASE on up to 10,000 items, ...) take
    part without being asked for: they are counted once and kept beside the study's runs. Runs of several tasks
    (MultiTask) have a table for each task, with runs of that task alone beside them.

    Args:
        runs: run folders, or folders that hold some.
        baseline: variant, or a run folder of it, that all others are tested with.
        format: of the table.
        pairs: also the table of all pairs and metrics (csv: only that).
        cutoff: K of the metrics.
        metrics: which are shown (default all of hit_rate, ndcg and mrr, or those of the runs' task), and of runs with
            several tasks the table that has them; one of your own by its class, my_package.MyMetric.
        interval: of a row, over users.
        resamples: of the bootstrap of a row's interval.
        alpha: of tests and intervals.
        seed: of the resamples.
        baselines: only these untrained baselines, as their rows are called, or all of them: all (default: all but EASE
            above 10,000 items).
        no_baselines: without the untrained baselines that take part otherwise.
        data_dir: where the data lies (default: what the runs were given).
        force: compare even what is not comparable; says in what.
    """
    from recsys_lab.runs.baselines import automatic_baselines
    from recsys_lab.runs.comparison import compare as compared
    from recsys_lab.runs.comparison import has_row, metrics_of
    from recsys_lab.runs.comparison_table import render
    from recsys_lab.runs.finished import Run, find_runs
    from recsys_lab.runs.measured import by_task
    from recsys_lab.runs.messages import show_messages
    from recsys_lab.statistics.pairs import Method

    table.format(format)  # refuses before anything is counted
    names = _named(metrics)
    found, problems = find_runs(runs)
    method = Method(interval, resamples, alpha, seed)
    counted, results = list[list[Run]](), []
    groups = by_task(found, names)
    for group, own in groups:
        if group:
            metrics_of(group, own)  # refuses before anything is counted
        automatic: list[Run] = []
        if not no_baselines:
            show_messages()
            automatic, more = automatic_baselines(group, data_dir, baselines)
            problems += more
        counted.append(automatic)
    there = {run.variant for runs in (*(group for group, _ in groups), *counted) for run in runs}
    unfit = [name for name in baselines if name not in there and name != "all" and name not in "\n".join(problems)]
    _left_out([*problems, *(f"baseline {name}: it is none of what these runs predict" for name in unfit)])
    everybody = [has_row([*group, *more], baseline) for (group, _), more in zip(groups, counted, strict=True)]
    for (group, own), automatic, has in zip(groups, counted, everybody, strict=True):
        reference = baseline if has or not any(everybody) else None  # where no table has it, the first says so
        results.append(compared(group, cutoff, force, reference, own, method, automatic))
    print(render(results, table.format(format), pairs, table.shown(format)))


def slices(
    runs: Sequence[str],
    *,
    by: Sequence[Dimension] = (),
    metric: Metric = "ndcg",
    cutoff: Count = 10,
    bins: Sequence[Count] = (),
    interval: Interval = "bca",
    resamples: Count = 2_000,
    alpha: Level = 0.05,
    seed: Seed = 0,
    format: Format = "text",
    table: TableOptions,
) -> None:
    """Cuts the test targets of finished runs into slices and shows the metric of each. Runs that are equal in
    everything but the seed are averaged; the difference of exactly two variants is tested in every slice, over users
    and seeds, Holm-corrected over all slices shown.

    Args:
        runs: run folders, or folders that hold some; of the same test targets.
        by: which slices (default all).
        metric: of the slices; one of your own by its class, my_package.MyMetric.
        cutoff: K of the metric.
        bins: smallest history length of each slice (default: 1 5 10 20 50 100 200).
        interval: of a variant, over users.
        resamples: of the bootstrap.
        alpha: intervals have the level 1 - alpha.
        seed: of the resamples.
        format: of the table.
    """
    from recsys_lab.diagnose.slice_values import HISTORY_BINS, OF_ALL_DATA
    from recsys_lab.diagnose.slice_values import slices as sliced
    from recsys_lab.diagnose.slices_table import render_slices
    from recsys_lab.runs.finished import find_runs
    from recsys_lab.statistics.pairs import Method

    (name,) = _named([metric])
    found, problems = find_runs(runs)
    _left_out(problems)
    method = Method(interval, resamples, alpha, seed)
    result = sliced(found, by or list(OF_ALL_DATA), name, cutoff, method, bins or HISTORY_BINS)
    print(render_slices(result, table.format(format), table.shown(format)))


def _named(metrics: Sequence[str]) -> list[str]:
    """The metrics as typed, but for a class, which may lie beside the user: the name of its metric."""
    if not any("." in name for name in metrics):
        return list(metrics)
    from recsys_lab.ops.query_metrics import metric_names
    from recsys_lab.runs.trust import find_own_modules

    find_own_modules()
    return [found for name in metrics for found in (metric_names([name]) if "." in name else [name])]


def _left_out(problems: Sequence[str]) -> None:
    for problem in problems:
        print(f"left out: {problem}", file=sys.stderr)
