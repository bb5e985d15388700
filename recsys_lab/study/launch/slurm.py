"""Runs as SLURM jobs, submitted through submitit as job arrays. What a job does is in slurm_worker.py.

<study folder>/slurm/       submitit's files: scripts, pickles, output of the jobs
<run folder>/slurm.json     the job that the run was submitted with
"""

from __future__ import annotations

import getpass
import shutil
import subprocess
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from recsys_lab.schema import RecsysLabError
from recsys_lab.study.files import read_json, write_json
from recsys_lab.study.launch.job import Job
from recsys_lab.study.launch.slurm_settings import Shape, SlurmSettings, shape_of
from recsys_lab.study.launch.slurm_worker import RECORD, Worker

Cluster = Literal["slurm", "local", "debug"]

ARRAY_SIZE = 1000
"""Jobs of one array; SLURM's own limit (MaxArraySize) is 1001 unless a cluster sets another."""


@dataclass(frozen=True)
class Submission:
    """One SLURM job, or one task of an array (`1234_5`), and the runs in it. handle: submitit's job."""

    job_id: str
    jobs: tuple[Job, ...]
    handle: Any


def launch_slurm(
    jobs: Sequence[Job], settings: SlurmSettings, folder: Path, cluster: Cluster = "slurm"
) -> list[Submission]:
    """Submits runs and returns at once. Runs that are in the queue already are left out.

    Args:
        folder: for submitit's files, on a file system that the nodes see; `<study folder>/slurm`.
        cluster: submitit's executor; `local` and `debug` try the same without SLURM, `local` all jobs at a time.

    Raises:
        RecsysLabError: without submitit or sbatch, when the settings contradict a run, or when SLURM refuses a job.
    """
    submitit = _submitit()
    if cluster == "slurm" and shutil.which("sbatch") is None:
        raise RecsysLabError(
            "sbatch is not installed here: submit from a machine of the cluster, such as its login node. --dry-run "
            "shows the sbatch script without it, and --launcher local runs on this machine"
        )
    waiting = queued(job.folder for job in jobs) if cluster == "slurm" else {}
    submissions = []
    for shape, packs in _packs([job for job in jobs if job.folder not in waiting], settings):
        workers = [_worker(pack, settings) for pack in packs]
        executor = _executor(submitit, cluster, folder, shape, settings)
        try:
            handles = executor.submit_array(workers)
        except (submitit.core.utils.FailedJobError, submitit.core.utils.FailedSubmissionError) as error:
            raise RecsysLabError(f"SLURM refused the job: {error}") from error
        for handle, pack in zip(handles, packs, strict=True):
            submissions.append(Submission(handle.job_id, tuple(pack), handle))
            _record(submissions[-1])
    return submissions


def sbatch_scripts(jobs: Sequence[Job], settings: SlurmSettings, folder: Path) -> str:
    """What `launch_slurm` would give to sbatch, and which runs each job has. Needs no cluster and changes nothing.

    Raises:
        RecsysLabError: without submitit, or when the settings contradict a run.
    """
    submitit = _submitit()

    # submitit's own is there only where srun is
    anywhere = type("Anywhere", (submitit.SlurmExecutor,), {"affinity": classmethod(lambda cls: 2)})
    texts = []
    for shape, packs in _packs(jobs, settings):
        executor = anywhere(folder, max_num_timeout=settings.requeues)
        executor.update_parameters(**_parameters(shape, settings, folder))
        if len(packs) > 1:
            executor.parameters["map_count"] = len(packs)
        texts.append(executor._make_submission_file_text(executor._submitit_command_str, ""))
        runs = [f"# job {i}: " + "  ".join(str(job.folder) for job in pack) for i, pack in enumerate(packs)]
        texts.append("\n".join(runs) + "\n")
    return "\n".join(texts)


# ----------------------------------------------------------------------------------------------------------------------
# what is in the queue


def queued(folders: Iterable[Path]) -> dict[Path, str]:
    """Those run folders whose job waits or works, with its id. Without SLURM's `squeue` on this machine: none.

    Raises:
        RecsysLabError: when squeue fails, since a run could then be submitted twice.
    """
    records = {folder: read_record(folder) for folder in folders}
    open_ = {folder: record for folder, record in records.items() if record and "ended" not in record}
    if not open_ or shutil.which("squeue") is None:
        return {}
    users = sorted({str(record["user"]) for record in open_.values()})
    command = ["squeue", "--noheader", "--array", "--format=%i", f"--user={','.join(users)}"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout.split()
    except (OSError, subprocess.SubprocessError) as error:
        text = str(getattr(error, "stderr", None) or error).strip()
        raise RecsysLabError(f"squeue does not say which runs are in the queue ({text}); try again later") from error
    return {folder: record["job_id"] for folder, record in open_.items() if record["job_id"] in found}


def read_record(folder: Path) -> dict[str, Any]:
    """A run's slurm.json: job_id, user, submitted, output, and ended once its job has done with it; empty for none."""
    found = read_json(folder / RECORD)
    return found if {"job_id", "user"} <= set(found) else {}


def _record(submission: Submission) -> None:
    for job in submission.jobs:
        job.folder.mkdir(parents=True, exist_ok=True)
        facts = {
            "job_id": submission.job_id,
            "user": getpass.getuser(),
            "submitted": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "output": str(submission.handle.paths.stdout),
        }
        write_json(job.folder / RECORD, facts)


# ----------------------------------------------------------------------------------------------------------------------
# from runs to submitit


def _packs(jobs: Sequence[Job], settings: SlurmSettings) -> list[tuple[Shape, list[list[Job]]]]:
    """Arrays of jobs with several runs each; runs that need different allocations are in different arrays."""
    by_shape: dict[Shape, list[Job]] = {}
    for job in jobs:
        by_shape.setdefault(shape_of(job, settings), []).append(job)
    arrays = []
    size = settings.runs_per_job
    for shape, members in by_shape.items():
        packs = [members[i : i + size] for i in range(0, len(members), size)]
        arrays += [(shape, packs[i : i + ARRAY_SIZE]) for i in range(0, len(packs), ARRAY_SIZE)]
    return arrays


def _worker(pack: list[Job], settings: SlurmSettings) -> Worker:
    return Worker(list(pack), min(settings.side_by_side, len(pack)), settings.cpus_per_task)


def _executor(submitit: Any, cluster: Cluster, folder: Path, shape: Shape, settings: SlurmSettings) -> Any:
    if cluster == "debug":
        return submitit.DebugExecutor(folder)
    if cluster == "local":
        executor = submitit.LocalExecutor(folder, max_num_timeout=settings.requeues)
        executor.update_parameters(
            timeout_min=settings.minutes,
            signal_delay_s=settings.signal_delay,
            nodes=shape.nodes,
            tasks_per_node=shape.processes,
            gpus_per_node=shape.gpus,
            stderr_to_stdout=True,
            setup=list(settings.setup),
        )
        return executor
    executor = submitit.SlurmExecutor(folder, max_num_timeout=settings.requeues)
    executor.update_parameters(**_parameters(shape, settings, folder))
    return executor


def _parameters(shape: Shape, settings: SlurmSettings, folder: Path) -> dict[str, Any]:
    """Of submitit's SlurmExecutor."""
    asked = {
        "job_name": folder.absolute().parent.name,
        "partition": settings.partition,
        "account": settings.account,
        "qos": settings.qos,
        "constraint": settings.constraint,
        "mem": settings.mem,
        "time": settings.minutes,
        "nodes": shape.nodes,
        "ntasks_per_node": shape.processes,
        "gpus_per_node": shape.gpus or None,
        "cpus_per_task": settings.cpus_per_task,
        "array_parallelism": settings.array_parallelism,
        "signal_delay_s": settings.signal_delay,
        "setup": list(settings.setup) or None,
        "stderr_to_stdout": True,
        # srun takes cpus-per-task from its own options only (SLURM 22.05); a task that dies takes the others with it
        "srun_args": [f"--cpus-per-task={settings.cpus_per_task}", "--kill-on-bad-exit=1"],
        "wckey": None,  # submitit's own name would be refused where such keys are checked
        # also where jobs are not queued again by default
        "additional_parameters": {"requeue": True, **settings.additional_parameters},
    }
    return {name: value for name, value in asked.items() if value is not None or name == "wckey"}


def _submitit() -> Any:
    try:
        import submitit
    except ImportError as error:
        raise RecsysLabError(
            "runs go to SLURM through submitit, which is not installed: pip install 'recsys-lab[slurm]'"
        ) from error
    return submitit
