"""A command in a process of its own, which heavy packages it has imported; and a script that trains on several."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

HEAVY = ["torch", "lightning", "polars", "numpy", "scipy", "jsonargparse", "wandb"]


def in_own_process(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)


def heavy_after_each(lines: list[str]) -> dict[str, set[str]]:
    """Name -> those of the heavy packages that are imported where a line calls `told(name)`. All in one process."""
    before = f"import json, sys\nfound = {{}}\ndef told(name): found[name] = [*({set(HEAVY)} & sys.modules.keys())]"
    done = in_own_process("\n".join([before, *lines, "print()", "print(json.dumps(found))"]))
    assert done.returncode == 0, done.stderr
    return {name: set(heavy) for name, heavy in json.loads(done.stdout.splitlines()[-1]).items()}


def told_without(package: str, *arguments: str) -> str:
    """What a command prints, which must not import the package."""
    code = "import sys; from recsys_lab.cli import main; sys.exit(main(sys.argv[2:]) or sys.argv[1] in sys.modules)"
    done = in_own_process(code, package, *arguments)
    assert done.returncode == 0, f"{' '.join(arguments)} failed, or imported {package}\n{done.stderr}"
    return done.stdout


def alone() -> dict[str, str]:
    """The environment of a script whose processes Lightning starts: nothing of another group of processes, a thread
    for each."""
    others = ("MASTER_PORT", "MASTER_ADDR", "LOCAL_RANK", "WORLD_SIZE")
    return {**{name: value for name, value in os.environ.items() if name not in others}, "OMP_NUM_THREADS": "1"}


def run_processes(script: str, *arguments: object, timeout: float = 600) -> None:
    """Runs a script of `tests/distributed` and the processes that it starts."""
    path = Path(__file__).parent / "distributed" / script
    command = [sys.executable, str(path), *map(str, arguments)]
    done = subprocess.run(command, env=alone(), capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, done.stderr[-3000:]
