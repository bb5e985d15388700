"""Runs of a study executed, here or on SLURM, and told as they end."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from recsys_lab.arguments import Count, Natural
from recsys_lab.runs.messages import show_messages
from recsys_lab.study.launch.job import Job, Outcome
from recsys_lab.study.launch.local import launch_local, make_places
from recsys_lab.study.launch.slurm import (
    queued,
    sbatch_scripts,
    slurm_settings,
    starter,
    submit,
    wait_for_old_claims,
)
from recsys_lab.study.plan import Plan, PlannedRun, Study
from recsys_lab.study.plan.keep import keep_values, keeps_values
from recsys_lab.study.plan.opened import StudyAsked, refuse_other_data
from recsys_lab.study.plan.plan_text import UNDONE, cost_line, counts_line, duration
from recsys_lab.words import RecsysLabError


class FailedRunsError(RecsysLabError):
    """Some runs of the study failed; the others are done."""

    exit_code = 1


@dataclass(frozen=True)
class Launch:
    """Where and how runs are executed.

    Args:
        launcher: this machine, or jobs of a SLURM cluster, which go on when this command has ended.
        workers: runs at a time (default: one per GPU, or per 4 cores).
        threads: of each run (default: the cores shared out).
        gpus_per_run: of each run, for trainer.devices above 1.
        limit: at most so many runs, then stop.
        dry_run: print what would be run (SLURM: the sbatch script), and run nothing.
        slurm: what each SLURM job is asked for: any option of sbatch (--slurm.partition gpu --slurm.time 1-00), also as
            a section `slurm:` of the study file. Of ours: array_parallelism, runs_per_job, side_by_side, requeues,
            signal_delay, setup; docs/studies.md has their defaults.
    """

    launcher: Literal["local", "slurm"] = "local"
    workers: Count | None = None
    threads: Count | None = None
    gpus_per_run: Natural = 1
    limit: Count | None = None
    dry_run: bool = False
    slurm: dict[str, list[str]] = field(default_factory=dict)


def undone(runs: Sequence[PlannedRun], named: bool) -> list[PlannedRun]:
    """What is to be executed. A run that is named may have failed, or be claimed by a node that is lost; a task that
    SLURM starts again leaves alone what failed before.

    Args:
        named: the user named the runs.
    """
    restarted = int(os.environ.get("SLURM_RESTART_COUNT") or 0) > 0
    states = (*UNDONE, *(("running",) if restarted else ("running", "failed"))) if named else UNDONE
    runs = [run for run in runs if run.state in states]
    if named and restarted:
        wait_for_old_claims([run.folder for run in runs])
    return runs


def execute(
    plan: Plan, runs: Sequence[PlannedRun], resolver: Any, chosen: Launch, asked: StudyAsked, resume: bool = True
) -> None:
    """Runs `runs` on this machine and reports each as it ends; or submits them to SLURM.

    Args:
        resolver: of `open_study`; it prepares the data.
        asked: the study, which a task of SLURM opens again.
        resume: runs go on from their last checkpoints, which are removed otherwise.

    Raises:
        RecsysLabError: when the results folder belongs to other data; when some runs failed (exit code 1).
    """
    refuse_other_data(plan)
    runs = list(runs)[: chosen.limit]
    for one in [] if resume or chosen.dry_run else runs:
        shutil.rmtree(one.folder / "checkpoints", ignore_errors=True)
    print(f"{plan.study.name}: {counts_line(plan, plan.runs)}", file=sys.stderr)
    if not runs:
        failed = len(plan.in_state("failed"))
        print("nothing to run" + (f"; {failed} failed: `recsys-lab study retry`" if failed else ""))
    elif chosen.launcher == "slurm":
        _submit(plan, runs, resolver, chosen, asked)
    else:
        _run_here(plan, runs, resolver, chosen)


def _run_here(plan: Plan, runs: Sequence[PlannedRun], resolver: Any, chosen: Launch) -> None:
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


def _submit(plan: Plan, runs: Sequence[PlannedRun], resolver: Any, chosen: Launch, asked: StudyAsked) -> None:
    folder, settings = plan.study.folder, slurm_settings(plan.study.slurm, chosen.slurm)
    waiting = {} if chosen.dry_run else queued(folder)
    jobs = [Job(one.folder, one.config) for one in runs if one.folder not in waiting]
    scripts = sbatch_scripts(jobs, settings, folder, _command(asked))
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


def _command(chosen: StudyAsked) -> list[str]:
    """What a task calls, up to the names of its runs; submitted in this folder, it runs in this folder."""
    command = [sys.executable, "-m", "recsys_lab.cli", "study", "run", str(chosen.file), "--root", chosen.root]
    for pair in chosen.set or ():
        command += ["--set", pair]
    if chosen.data_dir is not None:
        command += ["--data_dir", chosen.data_dir]
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
