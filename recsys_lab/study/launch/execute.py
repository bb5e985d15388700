"""Runs of a study executed and told as they end."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recsys_lab.arguments import Count, Natural
from recsys_lab.runs.claim import BEAT_SECONDS, FILE, FIT, STALE_SECONDS, owner
from recsys_lab.runs.messages import show_messages
from recsys_lab.study.launch.job import Job, Outcome
from recsys_lab.study.launch.local import launch_local, make_places
from recsys_lab.study.plan import Plan, PlannedRun, Study
from recsys_lab.study.plan.beginnings import with_beginnings
from recsys_lab.study.plan.keep import keep_values, keeps_values
from recsys_lab.study.plan.opened import refuse_other_data
from recsys_lab.study.plan.plan_text import UNDONE, cost_line, counts_line, duration
from recsys_lab.study.plan.planned import epochs_in
from recsys_lab.words import RecsysLabError, number_of


class FailedRunsError(RecsysLabError):
    """Some runs of the study failed; the others are done."""

    exit_code = 1


@dataclass(frozen=True)
class Launch:
    """How runs are executed.

    Args:
        workers: runs at a time (default: one per GPU, or per 4 cores).
        threads: of each run (default: the cores shared out).
        gpus_per_run: of each run, for trainer.devices above 1.
        limit: at most so many runs, then stop.
    """

    workers: Count | None = None
    threads: Count | None = None
    gpus_per_run: Natural = 1
    limit: Count | None = None


def undone(runs: Sequence[PlannedRun]) -> list[PlannedRun]:
    """What is to be executed. In a job that SLURM has started again, a claimed run may be the one that the job had when
    its node was lost: such a claim is void after a while."""
    if int(os.environ.get("SLURM_RESTART_COUNT") or 0) == 0:
        return [run for run in runs if run.state in UNDONE]
    found = [run for run in runs if run.state in (*UNDONE, "running")]
    end = time.time() + STALE_SECONDS + BEAT_SECONDS
    while time.time() < end and any(owner(run.folder, file) for run in found for file in (FILE, FIT)):
        time.sleep(0.5)
    return found


def execute(
    plan: Plan,
    runs: Sequence[PlannedRun],
    resolver: Any,
    chosen: Launch,
    resume: bool = True,
    asked: Sequence[PlannedRun] = (),
) -> None:
    """Runs `runs` on this machine and reports each as it ends.

    Args:
        resolver: of `open_study`; it prepares the data.
        resume: runs go on from their last checkpoints, which are removed otherwise.
        asked: what was selected, of which `runs` are left to do.

    Raises:
        RecsysLabError: when the results folder belongs to other data; when some runs failed (exit code 1).
    """
    refuse_other_data(plan)
    runs = with_beginnings(runs, plan.runs)[: chosen.limit]
    for one in [] if resume else runs:
        shutil.rmtree(one.folder / "checkpoints", ignore_errors=True)
    print(f"{plan.study.name}: {counts_line(plan, plan.runs)}", file=sys.stderr)
    if not runs:
        failed = len(plan.in_state("failed"))
        of_these = f" ({counts_line(plan, asked)})" if 0 < len(asked) < len(plan.runs) else ""
        print(f"nothing to run{of_these}" + (f"; {failed} failed: `recsys-lab study retry`" if failed else ""))
        return
    places = make_places(chosen.workers, chosen.threads, chosen.gpus_per_run)
    workers = len(places.environments)
    print(f"{cost_line(plan, runs, workers)}; {places.describe()}", flush=True)
    show_messages()
    resolver.prepare([one.variant.settings for one in runs])
    jobs = [Job(one.folder, one.config, starter(), one.begins_with) for one in runs]
    progress = Progress(runs, workers, plan.study)
    with terminated_as_interrupt():
        outcomes = launch_local(jobs, places, on_end=progress.ended)
    failed_now = sum(outcome.state == "failed" for outcome in outcomes)
    done = sum(outcome.state == "finished" for outcome in outcomes)
    print(f"{done} finished, {failed_now} failed in {duration(time.time() - progress.began)}")
    if failed_now:
        raise FailedRunsError(
            f"{failed_now} of {number_of(len(runs), 'run')} failed: `recsys-lab study status {plan.study.file}` says "
            f"why, `recsys-lab study retry {plan.study.file}` runs them again"
        )


def starter() -> tuple[str, ...]:
    """What a run is started with here: `srun` in a SLURM allocation of several processes, and nothing elsewhere."""
    if int(os.environ.get("SLURM_NTASKS") or 1) < 2:
        return ()
    cpus = os.environ.get("SLURM_CPUS_PER_TASK", "1")  # srun takes it from its own option only (SLURM 22.05)
    return ("srun", "--disable-status", "--kill-on-bad-exit=1", f"--cpus-per-task={cpus}")


class Progress:
    """A line for each run that ends, with the time that is left; its values are kept where the study keeps them."""

    def __init__(self, runs: Sequence[PlannedRun], workers: int, study: Study) -> None:
        self.study = study
        self.by_folder: dict[Path, PlannedRun] = {run.folder: run for run in runs}
        self.total, self.workers = len(runs), workers
        self.began, self.ended_count, self.seconds = time.time(), 0, 0.0

    def ended(self, job: Job, outcome: Outcome) -> None:
        run = self.by_folder[job.folder]
        self.ended_count += 1
        self.seconds += outcome.seconds
        left = self.total - self.ended_count
        ahead = self.seconds / self.ended_count * left / min(self.workers, max(left, 1))
        state = "left to another worker, which has it" if outcome.state == "running" else outcome.state
        text = f"[{self.ended_count}/{self.total}] {run.variant.label} seed {run.seed}: {state}"
        if outcome.state != "running":
            text += f", {duration(outcome.seconds)}"
        if outcome.state == "failed":
            text += f", {(outcome.error.splitlines() or ['?'])[-1]} ({job.folder / 'log.txt'})"
        if outcome.state == "interrupted":
            text += f", {number_of(epochs_in(job.folder / 'metrics.csv'), 'epoch')} kept"
        elif left:
            text += f", about {duration(ahead)} left"
        print(text, flush=True)
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
        print("interrupted: finished epochs are kept", file=sys.stderr)
        raise
    finally:
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)
