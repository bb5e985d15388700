"""How far a study is, as text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from recsys_lab.runs.claim import owner
from recsys_lab.study.launch.slurm import queued
from recsys_lab.study.plan.plan_text import UNDONE, cost_line, counts_line, what_stands_in_the_way
from recsys_lab.study.plan.planned import Plan, PlannedRun


def status_text(plan: Plan, runs: Sequence[PlannedRun]) -> str:
    """How many runs are in which state, what runs now, and what failed why."""
    lines = [f"{plan.study.name}: {counts_line(plan, runs)}", cost_line(plan, runs)]
    for one in runs:
        if one.state == "running":
            who = owner(one.folder) or {}
            since = f", on {who['host']} since {who['since']}" if who else ""
            lines.append(
                f"running: {one.variant.label} seed {one.seed}: {_epochs(one.folder / 'metrics.csv')} epochs{since}"
            )
    waiting = queued(plan.study.folder)
    lines += [
        f"in the queue: {one.folder}, job {waiting[one.folder]}"
        for one in runs
        if one.state in UNDONE and one.folder in waiting
    ]
    return "\n".join([*lines, *what_stands_in_the_way(plan, runs)])


def _epochs(metrics: Path) -> int:
    try:
        return max(0, len(metrics.read_text().splitlines()) - 1)
    except OSError:
        return 0
