"""What one SLURM job does: executes its runs, and stops them in time to be queued again.

submitit starts this once for each process of a run (`srun`, one task per GPU). Runs of one process share the allocation
as they would share a machine; those of several go one after another, see slurm_tasks.py.

SLURM sends SIGUSR2 some time before it ends an allocation. The runs are then stopped as by Ctrl-C, and submitit queues
the job again, with the runs that are left; they go on from their last checkpoints. A job that is killed without warning
(a lost node) and queued again by SLURM does the same.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from recsys_lab.study.files import write_json
from recsys_lab.study.launch.claim import BEAT_SECONDS, FILE, FIT, STALE_SECONDS, owner
from recsys_lab.study.launch.job import Job, Outcome
from recsys_lab.study.launch.local import launch_local, make_places
from recsys_lab.study.launch.slurm_tasks import POLL_SECONDS, Follower, Leader

RECORD = "slurm.json"
"""In a run folder: the job that it was submitted with."""


class TimeIsUp(KeyboardInterrupt):
    """SLURM is about to end the allocation. Runs are stopped as by Ctrl-C."""


class Worker:
    """The runs of one SLURM job; submitit pickles it and calls it in each task.

    Args:
        jobs: in their order; those that are finished or have failed are taken out on the way.
        side_by_side: so many at a time, where each is one process.
        threads: of each task.
    """

    def __init__(self, jobs: list[Job], side_by_side: int = 1, threads: int = 1, attempt: int = 0) -> None:
        self.jobs, self.side_by_side, self.threads, self.attempt = jobs, side_by_side, threads, attempt

    def __call__(self) -> dict[str, str]:
        """Run folder -> how its run ended."""
        import submitit

        task = submitit.JobEnvironment()
        ended: dict[str, str] = {}
        restarts = f"{self.attempt}.{os.environ.get('SLURM_RESTART_COUNT', 0)}"
        if task.global_rank > 0:
            Follower(task, restarts, self.threads).run()
            return ended
        with requeued_in_time():
            if restarts != "0.0":
                _wait_for_old_claims(self.jobs)
            if task.num_tasks > 1:
                Leader(task, restarts, self.threads).run(list(self.jobs), lambda *end: self._note(ended, *end))
            else:
                places = make_places(self.side_by_side, max(1, self.threads // self.side_by_side))
                launch_local(list(self.jobs), places, on_end=lambda *end: self._note(ended, *end))
        for job in self.jobs:
            close_record(job.folder)
        return ended

    def checkpoint(self) -> Any:
        """What submitit queues again: the runs that are left."""
        import submitit

        return submitit.helpers.DelayedSubmission(
            Worker(self.jobs, self.side_by_side, self.threads, attempt=self.attempt + 1)
        )

    def _note(self, ended: dict[str, str], job: Job, outcome: Outcome) -> None:
        ended[str(job.folder)] = outcome.state
        print(f"{job.folder}: {outcome.state}", flush=True)
        if outcome.state in ("finished", "failed"):
            self.jobs.remove(job)
            close_record(job.folder)


@contextlib.contextmanager
def requeued_in_time() -> Iterator[None]:
    """Lets the runs end before submitit's own handler of the warning queues the job again."""
    import submitit

    warning = getattr(signal, f"SIG{submitit.JobEnvironment.USR_SIG}")
    queue_again = signal.getsignal(warning)
    if not callable(queue_again):  # the debug executor works in the process that submits
        yield
        return

    def stop(*_: Any) -> None:
        signal.signal(warning, signal.SIG_IGN)  # once is enough
        raise TimeIsUp

    signal.signal(warning, stop)
    try:
        yield
    except TimeIsUp:
        queue_again(warning, None)  # ends this process


def close_record(folder: Path) -> None:
    """The job has done with this run: it is not queued any more, even while the job goes on with others."""
    with contextlib.suppress(OSError, ValueError):
        record = json.loads((folder / RECORD).read_text())
        write_json(folder / RECORD, record | {"ended": time.strftime("%Y-%m-%dT%H:%M:%S%z")})


def _wait_for_old_claims(jobs: list[Job]) -> None:
    """A job that was killed on another node left claims, which are void when their hearts have stopped for long enough.
    A worker that lives keeps its claim, and its run is left to it."""
    end = time.time() + STALE_SECONDS + BEAT_SECONDS
    while time.time() < end and any(owner(job.folder, file) is not None for job in jobs for file in (FILE, FIT)):
        time.sleep(POLL_SECONDS)
