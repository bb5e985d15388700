"""`recsys-lab study status FILE`: how far a study is. Changes nothing."""

from __future__ import annotations

from recsys_lab.cli.study.opened import add_selection, open_study, select, study_parser
from recsys_lab.runs.claim import owner
from recsys_lab.study.launch.slurm import queued
from recsys_lab.study.plan.plan_text import UNDONE, cost_line, counts_line, failures, not_counted


def run(arguments: list[str]) -> None:
    parser = study_parser(
        "status", "Says how far a study is: how many runs are in which state, what runs now, and what failed why."
    )
    add_selection(parser)
    chosen = parser.parse_args(arguments[1:])
    plan, _ = open_study(chosen)
    runs = select(plan, chosen)
    print(f"{plan.study.name}: {counts_line(plan, runs)}")
    print(cost_line(plan, runs))
    for one in runs:
        if one.state == "running":
            who = owner(one.folder) or {}
            epochs = _epochs(one.folder / "metrics.csv")
            since = f", on {who['host']} since {who['since']}" if who else ""
            print(f"running: {one.variant.label} seed {one.seed}: {epochs} epochs{since}")
    waiting = queued(plan.study.folder)
    for one in runs:
        if one.state in UNDONE and one.folder in waiting:
            print(f"in the queue: {one.folder}, job {waiting[one.folder]}")
    for text in (failures(runs), *(f"refused: {line}" for line in plan.refusals), *not_counted(plan)):
        if text:
            print(text)


def _epochs(metrics: object) -> int:
    try:
        return max(0, len(open(str(metrics)).read().splitlines()) - 1)  # noqa: SIM115
    except OSError:
        return 0
