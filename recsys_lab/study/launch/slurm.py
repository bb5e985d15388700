"""Runs as SLURM job arrays: one sbatch script, whose tasks are `recsys-lab study run FILE --run NAME ...`.

A task claims its runs and executes them as on any machine, so that it does not matter how often, or by whom, they are
submitted. Where a run has several processes, the task starts it with `srun`, and Lightning finds the processes by
SLURM's variables.

<study folder>/slurm/<job>.sh     the script of each array, with the names of the runs in each of its tasks
<study folder>/slurm/<job>_<task>.out
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recsys_lab.runs.claim import BEAT_SECONDS, FILE, FIT, STALE_SECONDS, owner
from recsys_lab.study.launch.job import Job
from recsys_lab.study.small_files import write_text
from recsys_lab.words import RecsysLabError

ARRAY_SIZE = 1000
"""Tasks of one array; SLURM's own limit (MaxArraySize) is 1001 unless a cluster sets another."""
DEFAULTS: dict[str, Any] = {
    "time": "04:00:00",
    "cpus_per_task": 4,
    "array_parallelism": 64,
    "runs_per_job": 1,
    "side_by_side": 1,
    "requeues": 10,
    "signal_delay": 120,
    "setup": [],
}
OURS = ("array_parallelism", "runs_per_job", "side_by_side", "requeues", "signal_delay", "setup")
"""Settings that are no options of sbatch."""
SCRIPT = """\
#!/bin/bash
# Written by `recsys-lab study run`: one task of the array for each line of `runs`, which holds names of its runs.
{options}
runs=(
{runs}
)
{setup}
out_of_time=
trap 'out_of_time=yes; kill -TERM $!' USR2 # stops the runs as Ctrl-C does: they keep their finished epochs
code=0
{command} --run ${{runs[$SLURM_ARRAY_TASK_ID]}} &
wait $! || code=$?
if [ "$out_of_time" ]; then # the signal ended the wait, not the runs
  code=0
  wait $! || code=$?
  if [ "$code" != 0 ] && [ "${{SLURM_RESTART_COUNT:-0}}" -lt {requeues} ]; then
    scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID"
  fi
fi
exit "$code"
"""


@dataclass(frozen=True)
class Shape:
    """Of an allocation: nodes, processes of a run and GPUs on each."""

    nodes: int
    processes: int
    gpus: int


def slurm_settings(section: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The `slurm:` section of a study file with what the command line sets on top; every name but ours is sbatch's.

    Args:
        given: on top; of a list of values the last one counts, of `setup` all.

    Raises:
        RecsysLabError: for a value that can't be meant; names it.
    """
    typed = {k: v[-1] if isinstance(v, list) and k != "setup" else v for k, v in given.items()}
    names = {str(name).replace("-", "_"): value for name, value in [*section.items(), *typed.items()]}
    found = DEFAULTS | {name: value for name, value in names.items() if value is not None}
    if "nodes" in found or "ntasks_per_node" in found:
        raise RecsysLabError(
            "slurm.nodes and slurm.ntasks_per_node follow from the run: set trainer.num_nodes and trainer.devices in "
            "the study's base"
        )
    for name, value in found.items():
        least = {"gpus_per_node": 0, "requeues": 0, "signal_delay": 61}.get(name, 1)
        if name in ("gpus_per_node", "cpus_per_task", *OURS[:-1]):
            if not re.fullmatch(r"\d+", str(value)) or int(value) < least:
                raise RecsysLabError(f"slurm.{name}: must be a whole number of at least {least}, got {value!r}")
            found[name] = int(value)
    if not re.fullmatch(r"(\d+-)?\d+(:\d+){0,2}", str(found["time"])) or not isinstance(found["time"], str):
        raise RecsysLabError(
            f'slurm.time: write "HH:MM:SS" or "D-HH:MM:SS" in quotes, got {found["time"]!r} (YAML takes 4:00:00 for a '
            "number)"
        )
    found["setup"] = [found["setup"]] if isinstance(found["setup"], str) else list(found["setup"])
    return found


def shape_of(job: Job, settings: Mapping[str, Any]) -> Shape:
    """Of the allocation that a run needs, by its trainer.num_nodes, devices and accelerator.

    Raises:
        RecsysLabError: when the settings contradict the run.
    """
    trainer = job.config.get("trainer") or {}
    nodes, accelerator = int(trainer.get("num_nodes") or 1), trainer.get("accelerator") or "auto"
    devices: Any = trainer.get("devices")
    gpus = settings.get("gpus_per_node")
    if isinstance(devices, str) and "," in devices:
        devices = [part for part in devices.split(",") if part]
    if isinstance(devices, list | tuple):
        devices = len(devices)
    count = int(devices) if str(devices).isdigit() else 0
    processes = count or (max(1, (gpus or 1) // settings["side_by_side"]) if accelerator != "cpu" else 1)
    is_distributed, uses_gpu = nodes * processes > 1, accelerator in ("gpu", "cuda")
    if is_distributed and settings["side_by_side"] > 1:
        raise RecsysLabError(
            f"slurm.side_by_side is {settings['side_by_side']}, and {job.folder} has {nodes * processes} processes "
            "(trainer.devices, num_nodes): such runs go one after another (slurm.runs_per_job)"
        )
    if gpus is None:
        wanted = processes if is_distributed else settings["side_by_side"] if uses_gpu else 0
        gpus = 0 if accelerator == "cpu" else wanted
    if gpus < processes and (uses_gpu or (is_distributed and gpus)):
        raise RecsysLabError(f"slurm.gpus_per_node is {gpus}, and runs such as {job.folder} need {processes} on a node")
    return Shape(nodes, processes, gpus)


def sbatch_scripts(
    jobs: Sequence[Job], settings: Mapping[str, Any], study_folder: Path, command: Sequence[str]
) -> list[str]:
    """What sbatch is given: an array for each kind of allocation that the runs need, of at most 1000 tasks.

    Args:
        command: `recsys-lab study run FILE ...`, to which each task adds the names of its runs.

    Raises:
        RecsysLabError: when the settings contradict a run.
    """
    by_shape: dict[Shape, list[str]] = {}
    for job in jobs:
        by_shape.setdefault(shape_of(job, settings), []).append(str(job.folder.relative_to(study_folder)))
    size, texts = settings["runs_per_job"], []
    for shape, names in by_shape.items():
        tasks = [" ".join(map(shlex.quote, names[i : i + size])) for i in range(0, len(names), size)]
        for i in range(0, len(tasks), ARRAY_SIZE):
            texts.append(_script(tasks[i : i + ARRAY_SIZE], shape, settings, study_folder, command))
    return texts


def _script(
    tasks: Sequence[str], shape: Shape, settings: Mapping[str, Any], study_folder: Path, command: Sequence[str]
) -> str:
    options = {
        "job_name": study_folder.name,
        "array": f"0-{len(tasks) - 1}%{settings['array_parallelism']}",
        "nodes": shape.nodes,
        "ntasks_per_node": shape.processes,
        "gpus_per_node": shape.gpus or None,
        **{name: value for name, value in settings.items() if name not in (*OURS, "gpus_per_node")},
        "signal": f"B:USR2@{settings['signal_delay']}",
        "requeue": True,
        "open_mode": "append",
        "output": study_folder / "slurm" / "%A_%a.out",
    }
    lines = [
        f"#SBATCH --{name.replace('_', '-')}" + ("" if value is True else f"={shlex.quote(str(value))}")
        for name, value in options.items()
        if value not in (None, False)
    ]
    threads = max(1, settings["cpus_per_task"] // settings["side_by_side"])
    launch = ["--workers", str(settings["side_by_side"]), "--threads", str(threads)]
    if shape.nodes * shape.processes > 1 and shape.gpus:
        launch += ["--gpus_per_run", str(shape.processes)]
    return SCRIPT.format(
        options="\n".join(lines),
        runs="\n".join(f"  {shlex.quote(task)}" for task in tasks),
        setup="\n".join(settings["setup"]),
        command=shlex.join([*command, *launch]),
        requeues=settings["requeues"],
    )


def submit(scripts: Sequence[str], study_folder: Path) -> list[str]:
    """Gives the scripts to sbatch and returns the ids of the jobs.

    Raises:
        RecsysLabError: without sbatch on this machine, or when SLURM refuses a job.
    """
    if shutil.which("sbatch") is None:
        raise RecsysLabError(
            "sbatch is not installed here: submit from a machine of the cluster, such as its login node. --dry_run "
            "shows the sbatch script without it, and --launcher local runs on this machine"
        )
    place = study_folder / "slurm"
    place.mkdir(parents=True, exist_ok=True)
    ids = []
    for script in scripts:
        write_text(place / "next.sh", script)
        done = subprocess.run(["sbatch", "--parsable", str(place / "next.sh")], capture_output=True, text=True)
        if done.returncode:
            raise RecsysLabError(f"SLURM refused the job: {done.stderr.strip()}")
        ids.append(done.stdout.strip().partition(";")[0])
        (place / "next.sh").rename(place / f"{ids[-1]}.sh")
    return ids


def queued(study_folder: Path) -> dict[Path, str]:
    """Run folders whose task waits or works, with its id. Without SLURM's `squeue` on this machine: none.

    Raises:
        RecsysLabError: when squeue fails.
    """
    scripts = sorted((study_folder / "slurm").glob("[0-9]*.sh"))
    if not scripts or shutil.which("squeue") is None:
        return {}
    command = ["squeue", "--noheader", "--array", "--format=%i", f"--name={study_folder.name}"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RecsysLabError(
            f"squeue does not say which runs are in the queue ({done.stderr.strip()}); try again later"
        )
    there = set(done.stdout.split())
    found: dict[Path, str] = {}
    for script in scripts:
        block = script.read_text().partition("\nruns=(\n")[2].partition("\n)\n")[0]
        for i, line in enumerate(block.splitlines()):
            if (task := f"{script.stem}_{i}") in there:
                found |= {study_folder / name: task for part in shlex.split(line) for name in shlex.split(part)}
    return found


# ----------------------------------------------------------------------------------------------------------------------
# inside a task


def starter() -> tuple[str, ...]:
    """What a run is started with here: `srun` in an allocation of several processes, and nothing elsewhere."""
    if int(os.environ.get("SLURM_NTASKS") or 1) < 2:
        return ()
    cpus = os.environ.get("SLURM_CPUS_PER_TASK", "1")  # srun takes it from its own option only (SLURM 22.05)
    return ("srun", "--disable-status", "--kill-on-bad-exit=1", f"--cpus-per-task={cpus}")


def wait_for_old_claims(folders: Sequence[Path]) -> None:
    """A task that SLURM started again, after its node was lost, finds its own claims, which are void after a while.
    A worker that lives keeps its claim, and its run is left to it."""
    end = time.time() + STALE_SECONDS + BEAT_SECONDS
    while time.time() < end and any(owner(folder, file) for folder in folders for file in (FILE, FIT)):
        time.sleep(0.5)
