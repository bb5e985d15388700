"""What one SLURM job does: executes its runs, and stops them in time to be queued again.

submitit starts this once for each process of a run (`srun`, one task per GPU). With one task, the runs share the
allocation as they would share a machine. With several, the first task leads: it alone claims run folders and writes
into them, and says in a file what the others start; all tasks start the same command, with the variables that torchrun
would set. So a run finds its processes in the same way in SLURM, under torchrun and in submitit's local executor.

SLURM sends SIGUSR2 some time before it ends an allocation. The runs are then stopped as by Ctrl-C, and submitit queues
the job again, with the runs that are left; they go on from their last checkpoints. A job that is killed without warning
(a lost node) and queued again by SLURM does the same.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from recsys_lab.study.launch.claim import BEAT_SECONDS, STALE_SECONDS, claimed, owner
from recsys_lab.study.launch.job import Execution, Job, Outcome, state_of
from recsys_lab.study.launch.local import THREAD_VARIABLES, launch_local, make_places

POLL_SECONDS = 0.5
LAST_SECONDS = 10.0
"""For the other processes of a run to end after the first one has, or for the first after another has failed."""

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


def write_json(path: Path, content: Any) -> None:
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(json.dumps(content, indent=2) + "\n")
    os.replace(partial, path)


def _wait_for_old_claims(jobs: list[Job]) -> None:
    """A job that was killed on another node left claims, which are void when their hearts have stopped for long enough.
    A worker that lives keeps its claim, and its run is left to it."""
    end = time.time() + STALE_SECONDS + BEAT_SECONDS
    while time.time() < end and any(owner(job.folder) is not None for job in jobs):
        time.sleep(POLL_SECONDS)


# ----------------------------------------------------------------------------------------------------------------------
# runs of several processes


class Task:
    """One of the processes of a distributed run. The tasks of a job talk through files beside submitit's own.

    Args:
        task: submitit's JobEnvironment.
        restarts: tells this start of the job from earlier ones, whose files may still lie there.
    """

    def __init__(self, task: Any, restarts: str, threads: int) -> None:
        from submitit.helpers import TorchDistributedEnvironment

        torch = TorchDistributedEnvironment()
        self.task, self.name = task, f"{task.job_id}_{restarts}"
        self.now = task.paths.folder / f"{self.name}_now.json"
        self.environment = {
            "MASTER_ADDR": torch.master_addr,
            "MASTER_PORT": str(torch.master_port),
            "WORLD_SIZE": str(torch.world_size),
            "LOCAL_WORLD_SIZE": str(torch.local_world_size),
            "RANK": str(torch.rank),
            "LOCAL_RANK": str(torch.local_rank),
            "GROUP_RANK": str(task.node),
            "TORCHELASTIC_RUN_ID": str(task.job_id),  # by this Lightning knows torchrun, before it looks for SLURM
            **dict.fromkeys(THREAD_VARIABLES, str(threads)),
        }

    def lost(self, run: int) -> Path:
        """Where a task says that its process of a run has failed."""
        path: Path = self.task.paths.folder / f"{self.name}_lost_{run}.txt"
        return path


class Leader(Task):
    """The first task."""

    def run(self, jobs: list[Job], on_end: Any) -> None:
        try:
            for i, job in enumerate(jobs):
                with claimed(job.folder) as is_mine:
                    already = state_of(job.folder, ignore_claim=True) if is_mine else "running"
                    if already in ("finished", "running"):
                        on_end(job, Outcome(already))
                        continue
                    on_end(job, self._execute(i, job))
        finally:
            write_json(self.now, {"run": -1})

    def _execute(self, i: int, job: Job) -> Outcome:
        write_json(self.now, {"run": i, "command": job.command()})
        execution = Execution(job, self.environment)
        try:
            while execution.process.poll() is None:
                time.sleep(POLL_SECONDS)
                if self.lost(i).is_file():
                    _end_failed(execution)
        except BaseException:
            execution.interrupt()
            execution.finish()
            raise
        finally:
            write_json(self.now, {"run": None})
        if self.lost(i).is_file():
            execution.log.write(self.lost(i).read_text())
        return execution.finish()


def _end_failed(execution: Execution) -> None:
    """Another process of the run has failed, and this one may wait for it for long."""
    try:
        execution.process.wait(LAST_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(execution.process.pid, signal.SIGABRT)  # no signal by which a run is taken away: it failed
        execution.process.wait()


class Follower(Task):
    """Every other task: starts what the leader says, and ends it with the leader's own process."""

    def run(self) -> None:
        done = None
        while True:
            now = self._now()
            if now.get("run") == -1:
                return
            if now.get("run") not in (None, done):
                done = now["run"]
                self._follow(now)
            time.sleep(POLL_SECONDS)

    def _now(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads(self.now.read_text())
        except (OSError, ValueError):
            return {}
        return found

    def _follow(self, now: dict[str, Any]) -> None:
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", **self.environment}
        process = subprocess.Popen(now["command"], stdin=subprocess.DEVNULL, env=environment, start_new_session=True)
        try:
            while process.poll() is None and self._is_on(now):
                time.sleep(POLL_SECONDS)
            if process.returncode and self._is_on(now):
                self.lost(now["run"]).write_text(
                    f"process {self.task.global_rank} of this run failed on {self.task.hostname} with exit code "
                    f"{process.returncode}; its output: {self.task.paths.stdout}\n"
                )
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(LAST_SECONDS)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def _is_on(self, now: dict[str, Any]) -> bool:
        """The leader's own process works still."""
        return self._now().get("run") == now["run"]
