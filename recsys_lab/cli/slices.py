"""`recsys-lab slices RUNS...`: where the metric of a run comes from, and where two variants differ."""

from __future__ import annotations

import sys
from typing import get_args

from recsys_lab.cli.options import COUNT, SEED, SHARE, PlainParser
from recsys_lab.diagnose.slice_values import DIMENSIONS, HISTORY_BINS, slices
from recsys_lab.diagnose.slices_table import FORMATS, render_slices
from recsys_lab.ops.rank_metrics import RANKING_METRICS
from recsys_lab.runs.finished import find_runs
from recsys_lab.statistics.pairs import Method
from recsys_lab.statistics.resampling import Interval


def run(arguments: list[str]) -> None:
    parser = PlainParser(
        prog="recsys-lab slices",
        allow_abbrev=False,
        description="Cuts the test targets of finished runs into slices and shows the metric of each. Runs that "
        "are equal in everything but the seed are averaged; the difference of exactly two variants is tested in every "
        "slice, over users and seeds, Holm-corrected over all slices shown.",
    )
    parser.add_argument("runs", nargs="+", help="run folders, or folders that hold some; of the same test targets")
    parser.add_argument(
        "--by", nargs="+", choices=list(DIMENSIONS), default=list(DIMENSIONS), help="which slices (default all)"
    )
    parser.add_argument("--metric", choices=list(RANKING_METRICS), default="ndcg", help="default ndcg")
    parser.add_argument("--cutoff", type=COUNT, default=10, help="K of the metric (default 10)")
    parser.add_argument(
        "--bins", nargs="+", type=COUNT, default=list(HISTORY_BINS), help="smallest history length of each slice"
    )
    parser.add_argument(
        "--interval", choices=get_args(Interval), default="bca", help="of a variant, over users (default bca)"
    )
    parser.add_argument("--resamples", type=COUNT, default=2_000, help="of the bootstrap (default 2000)")
    parser.add_argument("--alpha", type=SHARE, default=0.05, help="intervals have the level 1 - alpha (default 0.05)")
    parser.add_argument("--seed", type=SEED, default=0, help="of the resamples (default 0)")
    parser.add_argument("--format", choices=FORMATS, default="text")
    chosen = parser.parse_args(arguments[1:])
    found, problems = find_runs(chosen.runs)
    for problem in problems:
        print(f"left out: {problem}", file=sys.stderr)
    method = Method(chosen.interval, chosen.resamples, chosen.alpha, chosen.seed)
    sliced = slices(found, chosen.by, chosen.metric, chosen.cutoff, method, chosen.bins)
    print(render_slices(sliced, chosen.format))
