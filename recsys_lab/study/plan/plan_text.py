"""A plan as text: its runs, what it will cost, how far it is, what failed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from recsys_lab.data.locate import DATA_DIR, no_such_data
from recsys_lab.report.shown_columns import ALL, Shown
from recsys_lab.report.table import Column, Table, text
from recsys_lab.report.terminal import wrapped
from recsys_lab.runs.claim import owner
from recsys_lab.study.plan.planned import Plan, PlannedRun, epochs_in
from recsys_lab.words import number_of

UNDONE = ("missing", "interrupted")
"""States that `study run` executes."""


def plan_text(plan: Plan, runs: Sequence[PlannedRun], shown: Shown = ALL) -> str:
    """Every run with its state, what the missing ones will cost, and what stands in the way."""
    table, left_out = shown.of(plan_table(plan, runs))
    lines = [*left_out, f"\n{plan.study.name}: {counts_line(plan, runs)}", cost_line(plan, runs)]
    lines += [*what_stands_in_the_way(plan, runs), *missing_data(runs)]
    below = "\n".join(lines)
    return f"{text(table, width=shown.width)}\n{below if shown.width is None else wrapped(below, shown.width)}"


def missing_data(runs: Sequence[PlannedRun]) -> list[str]:
    """A line for each data set that is neither prepared nor can be had, of runs that are still to be made."""
    asked: dict[tuple[str, str], None] = {}
    for run in runs:
        data = run.variant.settings.get("data") or {}
        if run.state in UNDONE and "dataset" in data:
            asked[str(data["dataset"]), str(data.get("data_dir", DATA_DIR))] = None
    return [f"can't run yet: {said}" for one in asked if (said := no_such_data(*one))]


def status_text(plan: Plan, runs: Sequence[PlannedRun]) -> str:
    """How many runs are in which state, what runs now, and what failed why."""
    lines = [f"{plan.study.name}: {counts_line(plan, runs)}", cost_line(plan, runs)]
    for one in runs:
        if one.state == "running":
            who = owner(one.folder) or {}
            since = f", on {who['host']} since {who['since']}" if who else ""
            epochs = epochs_in(one.folder / "metrics.csv")
            lines.append(f"running: {one.variant.label} seed {one.seed}: {number_of(epochs, 'epoch')}{since}")
    return "\n".join([*lines, *what_stands_in_the_way(plan, runs)])


def what_stands_in_the_way(plan: Plan, runs: Sequence[PlannedRun]) -> list[str]:
    """What each failed run said last and where the rest is, results on other data, and values that are no run of the
    study; a line each."""
    lines = []
    for run in runs:
        if run.state == "failed":
            error = run.error.strip().splitlines()
            lines.append(f"failed: {run.variant.label} seed {run.seed}: {error[-1] if error else 'no message'}")
            lines.append(f"        {run.folder / 'log.txt'}")
    lines += [f"refused: {line}" for line in plan.refusals]
    return [*lines, *(f"not counted: {line}" for line in plan.not_counted)]


def plan_record(plan: Plan, runs: Sequence[PlannedRun]) -> dict[str, Any]:
    """What `plan_text` and `status_text` say, for programs; seconds are not rounded."""
    number = {run.folder: i for i, run in enumerate(plan.runs)}
    return {
        "study": plan.study.name,
        "question": plan.study.question,
        "states": dict(Counter(run.state for run in runs)),
        "runs": [
            {
                "number": number[run.folder],
                "variant": run.variant.label,
                "seed": run.seed,
                "state": run.state,
                "epochs": run.manifest.get("epochs"),
                "seconds": run.manifest.get("wall_seconds") if run.state == "finished" else None,
                "expected_seconds": plan.estimates.left(run) if run.state in UNDONE else None,
                "folder": str(run.place),
                "error": run.error if run.state == "failed" else None,
            }
            for run in runs
        ],
        "refusals": plan.refusals,
        "not_counted": plan.not_counted,
    }


def plan_table(plan: Plan, runs: Sequence[PlannedRun]) -> Table:
    """One line per run: number in the study, variant, seed, state, epochs, seconds taken (or ~ expected), folder."""
    number = {run.folder: i for i, run in enumerate(plan.runs)}
    columns = [
        Column("number", "d", value=lambda run: number[run.folder]),
        Column("variant", value=lambda run: run.variant.label),
        Column("seed", "d"),
        Column("state"),
        Column("epochs", ".0f", value=lambda run: run.manifest.get("epochs"), spare=1),
        Column("time", ">", value=lambda run: _time(plan, run)),
        Column("folder", value=lambda run: str(run.place), spare=2),
    ]
    return Table(columns, runs)


def _time(plan: Plan, run: PlannedRun) -> str:
    seconds = run.manifest.get("wall_seconds") if run.state == "finished" else None
    if seconds is not None:
        return duration(float(seconds))
    expected = plan.estimates.left(run)
    return "?" if expected is None else f"~{duration(expected)}"


def counts_line(plan: Plan, runs: Sequence[PlannedRun]) -> str:
    """`42 runs of 14 variants: 12 finished, 30 missing`."""
    states = [run.state for run in runs]
    counts = Counter(states)
    variants = len({run.variant.identity for run in runs})
    found = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    return f"{number_of(len(runs), 'run')} of {number_of(variants, 'variant')}: {found}"


def cost_line(plan: Plan, runs: Sequence[PlannedRun], workers: int = 1) -> str:
    """How long the undone runs will take, and what that is known from."""
    undone = [run for run in runs if run.state in UNDONE]
    if not undone:
        running = [plan.estimates.left(run) for run in runs if run.state == "running"]
        longest = max((seconds for seconds in running if seconds is not None), default=None)
        left = "" if longest is None else f"; what runs has about {duration(longest)} left"
        return f"nothing is left to run{left}"
    expected = [plan.estimates.left(run) for run in undone]
    known = [seconds for seconds in expected if seconds is not None]
    finished = len(plan.in_state("finished"))
    if not known:
        return f"{len(undone)} to run; their time is not known before one has finished"
    total = sum(known) + (len(undone) - len(known)) * sum(known) / len(known)
    source = f"from {finished} finished" if finished else "at most: from the cap trainer.max_time"
    side = f", {duration(total / min(workers, len(undone)))} with {workers} workers" if workers > 1 else ""
    return f"{len(undone)} to run, about {duration(total)} one after another{side} ({source})"


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3 h 05 min`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"
