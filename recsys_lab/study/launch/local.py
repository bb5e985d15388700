"""Runs on this machine: so many at a time, each with its share of the cores or its own GPUs."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from recsys_lab.runs.claim import claimed
from recsys_lab.study.launch.job import GRACE_SECONDS, Execution, Job, Outcome, state_of
from recsys_lab.words import RecsysLabError

POLL_SECONDS = 0.1
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS")
CORES_PER_WORKER = 4
"""By default: small models gain little from more threads."""


@dataclass(frozen=True)
class Places:
    """Where runs go side by side: one environment for each of the workers."""

    environments: tuple[dict[str, str], ...]

    def describe(self) -> str:
        first = self.environments[0]
        gpus = f", {first['CUDA_VISIBLE_DEVICES'].count(',') + 1} GPU each" if "CUDA_VISIBLE_DEVICES" in first else ""
        workers = len(self.environments)
        return f"{workers} worker{'s' if workers > 1 else ''}, {first['OMP_NUM_THREADS']} threads each{gpus}"


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
    jobs: Sequence[Job],
    places: Places,
    on_start: Callable[[Job], None] = lambda job: None,
    on_end: Callable[[Job, Outcome], None] = lambda job, outcome: None,
) -> list[Outcome]:
    """Executes jobs in their order, as many at a time as there are places, and returns how each ended.

    A failed run does not stop the others. Another launcher's runs are left to it.

    Raises:
        KeyboardInterrupt: after Ctrl-C was passed on to the runs, which keep their epochs, and all have ended. A second
            Ctrl-C kills them.
    """
    outcomes: dict[int, Outcome] = {}
    waiting = list(enumerate(jobs))
    free = list(reversed(places.environments))
    live: list[tuple[int, Execution, dict[str, str], ExitStack]] = []

    def take_next() -> None:
        index, job = waiting.pop(0)
        stack = ExitStack()
        is_mine = stack.enter_context(claimed(job.folder))
        already = state_of(job.folder, ignore_claim=True) if is_mine else "running"
        if already in ("running", "finished"):  # since the plan was made
            stack.close()
            outcomes[index] = Outcome(already)
            on_end(job, outcomes[index])
            return
        environment = free.pop()
        on_start(job)
        live.append((index, Execution(job, environment), environment, stack))

    def take_away(entry: tuple[int, Execution, dict[str, str], ExitStack]) -> None:
        index, execution, environment, stack = entry
        outcomes[index] = execution.finish()
        stack.close()
        live.remove(entry)
        free.append(environment)
        on_end(execution.job, outcomes[index])

    try:
        while waiting or live:
            while waiting and free:
                take_next()
            for entry in [entry for entry in live if entry[1].process.poll() is not None]:
                take_away(entry)
            if live:
                time.sleep(POLL_SECONDS)
    except BaseException:
        stop_all([entry[1] for entry in live])
        for entry in list(live):
            take_away(entry)
        raise
    return [outcomes[index] for index in range(len(jobs))]


def stop_all(executions: Sequence[Execution]) -> None:
    """All at once, so that one slow run does not make the others wait."""
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
