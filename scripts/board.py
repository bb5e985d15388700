#!/usr/bin/env python3
"""Which encoder is the best on which data: docs/board.md, from the kept values of experiments/board.

    recsys-lab study run experiments/board --workers 2 --only 'lastfm*'   # one data set; what is finished is kept
    python scripts/board.py                                               # writes docs/board.md
    python scripts/board.py --finalists                                   # who gets three seeds, of each data set

No data is needed: the values and the counted baselines lie in experiments/board/values. What stands above the first
mark and below the second in docs/board.md is written by hand and kept.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import fmean

import numpy as np

from recsys_lab.report.escapes import prose
from recsys_lab.report.table import Cell, Column, Table, markdown
from recsys_lab.runs.comparison_row import Row
from recsys_lab.runs.comparison_table import evaluation_line
from recsys_lab.runs.run_files import write_text
from recsys_lab.statistics.pairs import Method
from recsys_lab.study.pages.tables import published, ranking
from recsys_lab.study.plan.opened import StudyAsked, open_study
from recsys_lab.study.plan.plan_text import UNDONE, duration
from recsys_lab.study.plan.planned import Plan, PlannedRun
from recsys_lab.study.results import Block, StudyResults, read_results
from recsys_lab.study.results.block import Line
from recsys_lab.study.values import find_kept_baselines
from recsys_lab.words import number_of

ROOT = Path(__file__).parents[1]
STUDY, PAGE = ROOT / "experiments" / "board", ROOT / "docs" / "board.md"
MARK = "<!-- below: written by scripts/board.py; write above this line -->"
END = "<!-- above: written by scripts/board.py; write below this line -->"
ALWAYS = ("sasrec", "gru4rec", "lstm_attention")
"""Encoders that get three seeds beside the five best on validation."""
FINALISTS = 5
TESTED = {"seeds", "group", "epochs"}


def finalists(results: StudyResults) -> dict[str, list[str]]:
    """Data set -> the encoders that get three seeds: the five best on validation, and `ALWAYS`."""
    found: dict[str, dict[str, float]] = {}
    for one in results.trials:
        found.setdefault(one.values["data"], {})[one.values["encoder"]] = one.reached[one.chosen]
    best = {data: sorted(of, key=lambda name: -of[name])[:FINALISTS] for data, of in found.items()}
    return {data: [*of, *(name for name in ALWAYS if name not in of)] for data, of in best.items()}


def rows_of(block: Block, is_counted: bool) -> list[tuple[Row, Line]]:
    """Best first."""
    pairs = zip(block.comparison.rows, block.lines, strict=True)
    return [(row, line) for row, line in pairs if row.is_counted == is_counted]


def encoder_of(line: Line) -> str:
    """A counted baseline has its own name."""
    return line.values.get("encoder", line.name)


def quick_row(block: Block) -> dict[str, str]:
    """What answers in ten seconds: the encoders that can't be told from the best of those that were tested."""
    trained, counted = rows_of(block, False), rows_of(block, True)
    tested = [one for one in trained if one[1].letters]
    best = set(tested[0][1].letters) if tested else set()
    group = [encoder_of(line) for _, line in tested if best & set(line.letters)]
    same = [line.name for _, line in counted if best & set(line.letters)]
    others = len(trained) - len(tested)
    one_seed = f"; {number_of(others, 'encoder')} with one seed: not tested" if others else ""

    def named(row: Row, line: Line) -> str:
        return f"{encoder_of(line)} {row.estimates[block.comparison.deciding].mean:.4f}"

    return {
        "data": block.title,
        "the best, which can't be told apart": (", ".join(group) or "no encoder was tested") + one_seed,
        f"highest {block.decided_by}": named(*(tested or trained)[0]),
        "best counted baseline": named(*counted[0]) if counted else "-",
        "is the best significantly above it": "no" if same else "yes" if tested and counted else "not tested",
    }


def seconds_of(block: Block, row: Row) -> float | None:
    """Of a fit, with validation: the median epoch times their number, since a run may have waited for others."""
    place = block.comparison.rows.index(row)
    curves = [curve for curve in block.curves if curve.row == place]
    found = [float(np.median(np.diff(curve.seconds, prepend=0))) * len(curve.epochs) for curve in curves]
    return fmean(found) if found else None


def encoders_table(block: Block, results: StudyResults) -> Table:
    """Every encoder of a data set and the counted baselines, best first."""
    lines = dict(zip(block.comparison.rows, block.lines, strict=True))
    data = next(line.values["data"] for line in block.lines if line.values)
    trials = {one.values["encoder"]: one for one in results.trials if one.values["data"] == data}
    recipes = list(dict.fromkeys(name for one in trials.values() for name in one.reached))

    def tried(recipe: str) -> Callable[[Row], float | None]:
        def reached(row: Row) -> float | None:
            one = trials.get(encoder_of(lines[row]))
            return None if one is None else one.reached.get(recipe)

        return reached

    def speed(row: Row) -> float | None:
        found = [run.metrics.get("train/tokens_per_second") for run in row.runs]
        known = [float(one) for one in found if one is not None]
        return fmean(known) if known else None

    columns = [
        Column("encoder", value=lambda row: Cell(encoder_of(lines[row]), "(counted)" if row.is_counted else "")),
        *(Column(f"{results.select}, {recipe}", ".4f", value=tried(recipe)) for recipe in recipes),
        Column("recipe", value=lambda row: one.chosen if (one := trials.get(encoder_of(lines[row]))) else "-"),
        *[column for column in ranking(block).columns if column.title in TESTED | {block.decided_by, "parameters"}],
        Column("seconds", ",.0f", value=lambda row: seconds_of(block, row)),
        Column("targets/s", ",.0f", value=speed),
    ]
    return Table(columns, block.comparison.rows, block.title)


def undone_lines(plan: Plan) -> Iterator[str]:
    """What was not run, and its cost, for each data set."""
    undone: dict[str, list[PlannedRun]] = {}
    for run in plan.runs:
        if run.state in UNDONE:
            undone.setdefault(run.variant.values["data"], []).append(run)
    for data, runs in undone.items():
        cost = duration(sum(plan.estimates.of(run) or 0.0 for run in runs))
        names = ", ".join(dict.fromkeys(run.variant.values["encoder"] for run in runs))
        yield f"- {data}: {number_of(len(runs), 'run')}, about {cost} one after another. They are of {names}."


def page(plan: Plan, results: StudyResults) -> str:
    """Everything below the mark."""
    quick = [quick_row(block) for block in results.blocks]
    parts = ["## In ten seconds", markdown(Table([Column(title) for title in quick[0]], quick))]
    for block in results.blocks:
        parts += [f"## {prose(block.title)}", prose(evaluation_line(block.evaluation, is_titled=True))]
        parts.append(markdown(encoders_table(block, results)))
    if results.published:
        parts += ["## Published numbers beside ours", markdown(published(results))]
    left = list(undone_lines(plan))
    parts += ["## Not run yet", "\n".join(left) if left else "Every planned cell was run."]
    return "\n\n".join(parts)


def results_of(plan: Plan) -> StudyResults:
    """From kept values alone."""
    return read_results(plan, lambda runs: (find_kept_baselines(plan.study.file, runs), []), Method())


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--finalists", action="store_true", help="print who gets three seeds, and write nothing")
    parser.add_argument("--root", default="runs", help="folder of the runs; kept values need none (default: runs)")
    asked = parser.parse_args(arguments)
    plan, _ = open_study(StudyAsked(str(STUDY), root=asked.root), only_looks=True)
    results = results_of(plan)
    if asked.finalists:
        for data, names in finalists(results).items():
            print(f"{data}: {', '.join(names)}")
        return
    above, _, made = PAGE.read_text(encoding="utf-8").partition(MARK)
    below = made.partition(END)[2].strip()
    write_text(PAGE, "\n".join([above.rstrip(), "", MARK, "", page(plan, results), "", END, "", below, ""]))
    print(PAGE)


if __name__ == "__main__":
    main()
