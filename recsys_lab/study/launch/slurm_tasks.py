"""Runs of several processes in one SLURM job: a task of SLURM's for each process.

The first task leads. It alone claims run folders and writes into them, and says in a file what the others start; all
start the same command, with the variables that torchrun would set. So Lightning finds the processes of a run alike in
SLURM, under torchrun and in submitit's local executor.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from recsys_lab.study.files import read_json, write_json
from recsys_lab.study.launch.claim import claimed
from recsys_lab.study.launch.job import Execution, Job, Outcome, state_of
from recsys_lab.study.launch.local import THREAD_VARIABLES

POLL_SECONDS = 0.5
LAST_SECONDS = 10.0
"""For the other processes of a run to end after the first one has, or for the first after another has failed."""


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

    def run(self, jobs: list[Job], on_end: Callable[[Job, Outcome], None]) -> None:
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
        return read_json(self.now)

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
