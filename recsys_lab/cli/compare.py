"""`recsys-lab compare RUNS...`: one table from several run folders."""

from __future__ import annotations

import sys
from typing import get_args

from recsys_lab.cli.options import COUNT, SEED, SHARE, PlainParser
from recsys_lab.runs.baselines import automatic_baselines
from recsys_lab.runs.comparison import METRICS, compare
from recsys_lab.runs.comparison_table import FORMATS, render
from recsys_lab.runs.finished import Run, find_runs
from recsys_lab.runs.messages import show_messages
from recsys_lab.statistics.pairs import Method
from recsys_lab.statistics.resampling import Interval


def run(arguments: list[str]) -> None:
    parser = PlainParser(
        prog="recsys-lab compare",
        allow_abbrev=False,
        description="Compares runs that were tested on the same data, split and evaluation settings; runs that are "
        "equal in everything but the seed are averaged. Every pair of variants is tested, or each with the --baseline: "
        "over users and seeds, Holm-corrected over all pairs in the deciding metric (ndcg, or else the first of "
        "--metrics). A variant with one seed is not tested. Untrained baselines (popularity, Markov, nearest "
        "neighbours, EASE, ...) take part without being asked for: they are counted once and kept beside the study's "
        "runs.",
    )
    parser.add_argument("runs", nargs="+", help="run folders, or folders that hold some")
    parser.add_argument("--baseline", help="variant, or a run folder of it, that all others are tested with")
    parser.add_argument("--format", choices=FORMATS, default="text")
    parser.add_argument("--pairs", action="store_true", help="also the table of all pairs and metrics (csv: only that)")
    parser.add_argument("--cutoff", type=COUNT, default=10, help="K of the metrics (default 10)")
    parser.add_argument(
        "--metrics", nargs="+", choices=METRICS, default=list(METRICS), help="which are shown (default all)"
    )
    parser.add_argument(
        "--interval", choices=get_args(Interval), default="bca", help="of a row, over users (default bca)"
    )
    parser.add_argument(
        "--resamples", type=COUNT, default=2_000, help="of the bootstrap of a row's interval (default 2000)"
    )
    parser.add_argument("--alpha", type=SHARE, default=0.05, help="of tests and intervals (default 0.05)")
    parser.add_argument("--seed", type=SEED, default=0, help="of the resamples (default 0)")
    parser.add_argument(
        "--no-baselines", action="store_true", help="without the untrained baselines that take part otherwise"
    )
    parser.add_argument("--data_dir", "--data-dir", help="where the data lies (default: what the runs were given)")
    parser.add_argument("--force", action="store_true", help="compare even what is not comparable; says in what")
    chosen = parser.parse_args(arguments[1:])
    found, problems = find_runs(chosen.runs)
    automatic: list[Run] = []
    if not chosen.no_baselines:
        show_messages()
        automatic, more = automatic_baselines(found, chosen.data_dir)
        problems += more
    for problem in problems:
        print(f"left out: {problem}", file=sys.stderr)
    method = Method(chosen.interval, chosen.resamples, chosen.alpha, chosen.seed)
    comparison = compare(found, chosen.cutoff, chosen.force, chosen.baseline, chosen.metrics, method, automatic)
    print(render(comparison, chosen.format, chosen.pairs))
