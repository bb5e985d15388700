"""`recsys-lab compare RUNS...`: one table from several run folders."""

from __future__ import annotations

import argparse
import sys

from recsys_lab.study.compare import compare
from recsys_lab.study.runs import find_runs
from recsys_lab.study.table import FORMATS, render


def run(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="recsys-lab compare",
        allow_abbrev=False,
        description="Compares runs that were tested on the same data, split and evaluation settings; seeds of one "
        "variant are averaged, and each variant is tested against the best (paired t-test over users, Holm-corrected).",
    )
    parser.add_argument("runs", nargs="+", help="run folders, or folders that hold some")
    parser.add_argument("--format", choices=FORMATS, default="text")
    parser.add_argument("--cutoff", type=int, default=10, help="K of the metrics (default 10)")
    parser.add_argument("--force", action="store_true", help="compare even what is not comparable; says in what")
    chosen = parser.parse_args(arguments[1:])
    found, problems = find_runs(chosen.runs)
    for problem in problems:
        print(f"left out: {problem}", file=sys.stderr)
    print(render(compare(found, chosen.cutoff, chosen.force), chosen.format))
