"""SLURM's commands as far as the tests need them: scontrol and scancel note, srun starts tasks.

`install(folder)` puts them into `folder/bin`; they keep their notes in `folder`.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
from warm import WarmPopen  # noqa: E402

COMMANDS = {
    "scontrol": """
        if [ "$1" = show ]; then echo localhost; else echo "$@" >> "$FAKE/scontrol.txt"; fi
    """,
    "scancel": """
        echo "$@" >> "$FAKE/scancel.txt"
        signal=${1#--signal=}
        kill -"$signal" $(cat "$FAKE/tasks")
    """,
    "srun": f"""
        exec {sys.executable} {Path(__file__).resolve()} "$@"
    """,
}


def install(folder: Path) -> dict[str, str]:
    """Environment variables with which the commands are found."""
    programs = folder / "bin"
    programs.mkdir(parents=True)
    for name, text in COMMANDS.items():
        lines = "\n".join(line.strip() for line in text.strip().splitlines())
        (programs / name).write_text(f"#!/bin/bash\nset -eu\n{lines}\n")
        (programs / name).chmod(0o755)
    return {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "FAKE": str(folder)}


def allocation(tasks: int, job: str = "1000") -> dict[str, str]:
    """What SLURM tells a batch script of an allocation on one node."""
    return {
        "SLURM_JOB_ID": job,
        "SLURM_JOB_NAME": "test",
        "SLURM_NNODES": "1",
        "SLURM_JOB_NUM_NODES": "1",
        "SLURM_JOB_NODELIST": "localhost",
        "SLURM_NTASKS_PER_NODE": str(tasks),
        "SLURM_NTASKS": str(tasks),
        "SLURM_CPUS_PER_TASK": "1",
    }


def srun(arguments: list[str]) -> int:
    """Starts the command that follows srun's options once for each task, and gives the highest exit code."""
    options = []
    while arguments and arguments[0].startswith("-"):
        options.append(arguments.pop(0))
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # bash makes background processes deaf to it, SLURM its tasks not
    tasks = []
    for rank in range(int(os.environ["SLURM_NTASKS"])):
        own = {"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank), "SLURM_NODEID": "0"}
        tasks.append(WarmPopen(arguments, env=os.environ | own))

    def forward(*_: object) -> None:
        for task in tasks:
            task.send_signal(signal.SIGINT)

    signal.signal(signal.SIGINT, forward if "--disable-status" in options else signal.SIG_IGN)
    (Path(os.environ["FAKE"]) / "tasks").write_text(" ".join(str(task.pid) for task in tasks))
    return max(task.wait() for task in tasks)


if __name__ == "__main__":
    sys.exit(srun(sys.argv[1:]))
