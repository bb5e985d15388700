"""`recsys-lab study run FILE`: runs what is missing, each run as its own process."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from recsys_lab.cli.options import COUNT, NOT_BELOW_0
from recsys_lab.cli.study.opened import add_selection, open_study, refuse_other_data, select, study_parser
from recsys_lab.runs.messages import show_messages
from recsys_lab.study.launch.job import Job, Outcome
from recsys_lab.study.launch.local import launch_local, make_places
from recsys_lab.study.launch.slurm import (
    DEFAULTS,
    OURS,
    queued,
    sbatch_scripts,
    slurm_settings,
    starter,
    submit,
    wait_for_old_claims,
)
from recsys_lab.study.plan import Plan, PlannedRun, Study
from recsys_lab.study.plan.keep import keep_values, keeps_values
from recsys_lab.study.plan.plan_text import UNDONE, cost_line, counts_line, duration
from recsys_lab.words import RecsysLabError


class FailedRunsError(RecsysLabError):
    """Some runs of the study failed; the others are done."""

    exit_code = 1


def run(arguments: list[str]) -> None:
    parser = study_parser(
        "run",
        "Runs what is missing of a study, each run as its own process with its output in its folder's log.txt. A "
        "finished run is never run again, one that was interrupted goes on from its last checkpoint, and a failed one "
        "stops no other (`study retry` runs it again). Ctrl-C leaves a study that the same command continues. Where a "
        "folder `values` lies beside the study file, what statistics need of each run is kept there as it ends; a run "
        "that is kept there counts as finished on every machine.",
    )
    add_selection(parser)
    add_launch_options(parser)
    chosen = parse_launch(parser, arguments[1:])
    plan, resolver = open_study(chosen)
    execute(plan, undone(select(plan, chosen), chosen), resolver, chosen)


def undone(runs: Sequence[PlannedRun], chosen: argparse.Namespace) -> list[PlannedRun]:
    """What is to be executed. A run that `--run` names may have failed, or be claimed by a node that is lost; a task
    that SLURM starts again leaves alone what failed before."""
    restarted = int(os.environ.get("SLURM_RESTART_COUNT") or 0) > 0
    states = (*UNDONE, *(("running",) if restarted else ("running", "failed"))) if chosen.run else UNDONE
    runs = [run for run in runs if run.state in states]
    if chosen.run and restarted:
        wait_for_old_claims([run.folder for run in runs])
    return runs


def add_launch_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--launcher",
        choices=("local", "slurm"),
        default="local",
        help="this machine, or jobs of a SLURM cluster, which go on when this command has ended (default local)",
    )
    parser.add_argument("--workers", type=COUNT, help="runs at a time (default: one per GPU, or per 4 cores)")
    parser.add_argument("--threads", type=COUNT, help="of each run (default: the cores shared out)")
    parser.add_argument(
        "--gpus-per-run", type=NOT_BELOW_0, default=1, help="of each run, for trainer.devices above 1 (default 1)"
    )
    parser.add_argument("--limit", type=COUNT, help="at most so many runs, then stop")
    parser.add_argument(
        "--dry-run", action="store_true", help="print what would be run (SLURM: the sbatch script), and run nothing"
    )
    parser.add_argument(
        "--slurm.NAME",
        metavar="VALUE",
        help="what each SLURM job is asked for: any option of sbatch (--slurm.partition gpu --slurm.time 1-00), also "
        "as a section `slurm:` of the study file. Of ours, with defaults: "
        + ", ".join(f"{name} {DEFAULTS[name]}" for name in OURS),
    )


def parse_launch(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> argparse.Namespace:
    """The options, with those of `--slurm.NAME` as a mapping under `slurm`; `setup` may be repeated."""
    rest: list[str] = []
    slurm: dict[str, Any] = {}
    given = iter(arguments)
    for text in given:
        name, equals, value = text.partition("=")
        if not name.startswith("--slurm."):
            rest.append(text)
            continue
        name, value = name.removeprefix("--slurm."), value if equals else next(given, "")
        if not value:
            parser.error(f"argument --slurm.{name}: expected one argument")
        slurm[name] = [*slurm.get("setup", []), value] if name == "setup" else value
    chosen = parser.parse_args(rest)
    chosen.slurm = slurm
    return chosen


def execute(plan: Plan, runs: Sequence[PlannedRun], resolver: Any, chosen: argparse.Namespace) -> None:
    """Runs `runs` on this machine and reports each as it ends; or submits them to SLURM.

    Raises:
        RecsysLabError: when the results folder belongs to other data; when some runs failed (exit code 1).
    """
    refuse_other_data(plan)
    runs = list(runs)[: chosen.limit]
    print(f"{plan.study.name}: {counts_line(plan, plan.runs)}", file=sys.stderr)
    if not runs:
        failed = len(plan.in_state("failed"))
        print("nothing to run" + (f"; {failed} failed: `recsys-lab study retry`" if failed else ""))
    elif chosen.launcher == "slurm":
        _submit(plan, runs, resolver, chosen)
    else:
        _run_here(plan, runs, resolver, chosen)


def _run_here(plan: Plan, runs: Sequence[PlannedRun], resolver: Any, chosen: argparse.Namespace) -> None:
    places = make_places(chosen.workers, chosen.threads, chosen.gpus_per_run)
    workers = len(places.environments)
    print(f"{cost_line(plan, runs, workers)}; {places.describe()}", flush=True)
    if chosen.dry_run:
        for one in runs:
            print(f"would run {one.variant.label} seed {one.seed} in {one.folder}")
        return
    show_messages()
    resolver.prepare([one.variant.settings for one in runs])
    progress = Progress(runs, workers, plan.study)
    with terminated_as_interrupt():
        outcomes = launch_local([Job(one.folder, one.config, starter()) for one in runs], places, on_end=progress.ended)
    failed_now = sum(outcome.state == "failed" for outcome in outcomes)
    done = sum(outcome.state == "finished" for outcome in outcomes)
    print(f"{done} finished, {failed_now} failed in {duration(time.time() - progress.began)}")
    if failed_now:
        raise FailedRunsError(
            f"{failed_now} of {len(runs)} runs failed: `recsys-lab study status {plan.study.file}` says why, "
            f"`recsys-lab study retry {plan.study.file}` runs them again"
        )


def _submit(plan: Plan, runs: Sequence[PlannedRun], resolver: Any, chosen: argparse.Namespace) -> None:
    folder, settings = plan.study.folder, slurm_settings(plan.study.slurm, chosen.slurm)
    waiting = {} if chosen.dry_run else queued(folder)
    jobs = [Job(one.folder, one.config) for one in runs if one.folder not in waiting]
    scripts = sbatch_scripts(jobs, settings, folder, _command(chosen))
    if chosen.dry_run:
        print("\n".join(scripts), end="")
        return
    show_messages()
    resolver.prepare([one.variant.settings for one in runs])  # here, once, and not in every task
    for job_id in submit(scripts, folder):
        print(f"job {job_id}: {folder / 'slurm' / job_id}.sh")
    left = f"; {len(runs) - len(jobs)} runs were in the queue already" if len(jobs) < len(runs) else ""
    print(
        f"{len(jobs)} runs submitted as {len(scripts)} job arrays{left}. Their output goes to {folder / 'slurm'}; "
        f"`recsys-lab study status {plan.study.file}` says how far they are"
    )


def _command(chosen: argparse.Namespace) -> list[str]:
    """What a task calls, up to the names of its runs; submitted in this folder, it runs in this folder."""
    command = [sys.executable, "-m", "recsys_lab.cli", "study", "run", str(chosen.file), "--root", chosen.root]
    for pair in chosen.set:
        command += ["--set", pair]
    if chosen.data_dir is not None:
        command += ["--data-dir", chosen.data_dir]
    return [*command, *(["--fast"] if chosen.fast else [])]


class Progress:
    """A line for each run that ends, with the time that is left; its values are kept where the study keeps them."""

    def __init__(self, runs: Sequence[PlannedRun], workers: int, study: Study) -> None:
        self.study = study
        self.by_folder = {run.folder: run for run in runs}
        self.total, self.workers = len(runs), workers
        self.began, self.ended_count, self.seconds = time.time(), 0, 0.0

    def ended(self, job: Job, outcome: Outcome) -> None:
        run = self.by_folder[job.folder]
        self.ended_count += 1
        self.seconds += outcome.seconds
        left = self.total - self.ended_count
        ahead = self.seconds / self.ended_count * left / min(self.workers, max(left, 1))
        texts = [
            f"[{self.ended_count}/{self.total}] {run.variant.label} seed {run.seed}: {outcome.state}",
            f"{duration(outcome.seconds)}",
        ]
        if outcome.state == "failed":
            texts.append(f"{(outcome.error.splitlines() or ['?'])[-1]} ({job.folder / 'log.txt'})")
        if outcome.state == "running":
            texts = [texts[0].replace("running", "left to another worker, which has it")]
        if left:
            texts.append(f"about {duration(ahead)} left")
        print(", ".join(texts), flush=True)
        if outcome.state == "finished" and keeps_values(self.study):
            keep_values(self.study, [run])


@contextmanager
def terminated_as_interrupt() -> Iterator[None]:
    """SIGTERM and a closed terminal stop a study as Ctrl-C does: its runs keep their epochs."""

    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    names = [name for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {name: signal.signal(getattr(signal, name), interrupt) for name in names}
    # a shell makes what it starts in the background ignore it
    before["SIGINT"] = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        print("interrupted: finished epochs are kept, and the same command goes on", file=sys.stderr)
        raise
    finally:
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)
