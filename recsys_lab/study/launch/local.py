"""Runs on this machine: so many at a time, each with its share of the cores or its own GPUs."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from recsys_lab.runs.claim import claimed
from recsys_lab.study.launch.job import GRACE_SECONDS, Execution, Job, Outcome, state_of
from recsys_lab.words import RecsysLabError, number_of

POLL_SECONDS = 0.1
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS")
CORES_PER_WORKER = 4
"""By default: small models gain little from more threads."""
Work = Generator[None, None, None]
"""What goes on at one place, run after run; it yields where it has to wait."""


@dataclass(frozen=True)
class Places:
    """Where runs go side by side: one environment for each of the workers."""

    environments: tuple[dict[str, str], ...]

    def describe(self) -> str:
        first = self.environments[0]
        gpus = f", {first['CUDA_VISIBLE_DEVICES'].count(',') + 1} GPU each" if "CUDA_VISIBLE_DEVICES" in first else ""
        workers = len(self.environments)
        return f"{number_of(workers, 'worker')}, {number_of(int(first['OMP_NUM_THREADS']), 'thread')} each{gpus}"


def make_places(workers: int | None = None, threads: int | None = None, gpus_per_run: int = 1) -> Places:
    """Shares out this machine.

    Args:
        workers: runs at a time; None = one per GPU (or per `gpus_per_run` GPUs), or per 4 cores where there is none.
        threads: of each run; None = the cores shared out evenly, so that they don't fight.
        gpus_per_run: for runs with `trainer.devices` above 1.

    Raises:
        RecsysLabError: when there are fewer GPUs than one run needs, or a count below 1.
    """
    for name, value in (("workers", workers), ("threads", threads), ("gpus_per_run", gpus_per_run)):
        if value is not None and value < 1:
            raise RecsysLabError(f"{name} must be at least 1, got {value}")
    cores, gpus = _cores(), _gpus()
    if gpus and len(gpus) < gpus_per_run:
        raise RecsysLabError(f"a run is to have {gpus_per_run} GPUs, and this machine shows {len(gpus)}")
    slots = len(gpus) // gpus_per_run
    workers = workers or slots or max(1, cores // CORES_PER_WORKER)
    threads = threads or max(1, cores // workers)
    environments = []
    for worker in range(workers):
        environment = dict.fromkeys(THREAD_VARIABLES, str(threads))
        if gpus:
            first = worker % slots * gpus_per_run
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(gpus[first : first + gpus_per_run])
        environments.append(environment)
    return Places(tuple(environments))


def launch_local(
    jobs: Sequence[Job], places: Places, on_end: Callable[[Job, Outcome], None] = lambda job, outcome: None
) -> list[Outcome]:
    """Executes jobs in their order, as many at a time as there are places, and returns how each ended.

    A failed run does not stop the others. Another launcher's runs are left to it.

    Raises:
        KeyboardInterrupt: after Ctrl-C was passed on to the runs, which keep their epochs, and all have ended. A second
            Ctrl-C kills them.
    """
    waiting = list(jobs)
    outcomes: dict[Path, Outcome] = {}
    live: list[Execution] = []

    def can_begin(job: Job) -> bool:
        is_ours = any(job.after == other.folder and other.folder not in outcomes for other in jobs)
        return job.after is None or not (is_ours or state_of(job.after) == "running")

    def work(environment: dict[str, str]) -> Work:
        while waiting:
            job = next((job for job in waiting if can_begin(job)), None)
            if job is None:
                yield
                continue
            waiting.remove(job)
            with claimed(job.folder) as is_mine:
                state = state_of(job.folder, ignore_claim=True) if is_mine else "running"
                outcome = Outcome(state)
                if state not in ("running", "finished"):  # nobody has begun or ended it since the plan was made
                    execution = Execution(job, environment)
                    try:
                        with watched(execution, live):
                            while execution.process.poll() is None:
                                yield
                    except BaseException:  # such as Ctrl-C: this run's end is told all the same
                        on_end(job, execution.outcome)
                        raise
                    outcome = execution.outcome
            outcomes[job.folder] = outcome
            on_end(job, outcome)

    side_by_side(work(environment) for environment in places.environments)
    return [outcomes[job.folder] for job in jobs]


def side_by_side(works: Iterable[Work]) -> None:
    """Until all have ended; where one breaks off, so do the others."""
    going = list(works)
    try:
        while going := [work for work in going if next(work, "ended") != "ended"]:
            time.sleep(POLL_SECONDS)
    finally:
        for work in going:
            work.close()


@contextmanager
def watched(execution: Execution, live: list[Execution]) -> Iterator[None]:
    """A run among those that are `live`. It is to end inside the block: what breaks the block off, such as Ctrl-C,
    stops all that live at once, so that one slow run does not make the others wait."""
    live.append(execution)
    try:
        yield
    except BaseException:
        stop_all(live)
        raise
    finally:
        live.remove(execution)
        execution.finish()


def stop_all(executions: Sequence[Execution]) -> None:
    try:
        for execution in executions:
            execution.ask_to_stop()
        end = time.time() + GRACE_SECONDS
        while time.time() < end and any(execution.process.poll() is None for execution in executions):
            time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        pass  # the second one: no more patience
    for execution in executions:
        execution.kill()


def _cores() -> int:
    """That this process may use: fewer than the machine has in a container or a batch job."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _gpus() -> list[str]:
    """Names for CUDA_VISIBLE_DEVICES."""
    import torch

    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    names = [name for name in visible.split(",") if name] if visible is not None else []
    return names[:count] if names else [str(i) for i in range(count)]
