"""What all benchmarks share: the machine and whether it was idle, a process per measurement, medians and ratios.

Imports nothing heavy: a child's peak memory starts at that of its parent.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

OURS = "recsys-lab"
Measurement = dict[str, Any]

QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "devices": 1,
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
}
"""A Trainer that prints and writes nothing."""


def peak_mb() -> float:
    """Most memory that this process had so far: imports and mapped pages of files included."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)


MAX_BUSY_CORES = 0.3


def require_idle(even_if_busy: bool) -> bool:
    """Says on stderr when others use this machine; False when nothing should be measured now."""
    busy = busy_cores()
    if busy <= MAX_BUSY_CORES:
        return True
    advice = "the result will say so" if even_if_busy else "wait until it is idle, or pass --even-if-busy"
    print(
        f"benchmark: others use {busy:.1f} cores of this machine: numbers taken now would be wrong; {advice}",
        file=sys.stderr,
    )
    return even_if_busy


def busy_cores(seconds: float = 2.0) -> float:
    """Cores that others use while this process waits: from /proc/stat, else the load average of the last minute."""

    def ticks() -> list[int]:
        return [int(number) for number in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]

    try:
        before = ticks()
        time.sleep(seconds)
        spent = [after - earlier for earlier, after in zip(before, ticks(), strict=True)]
        idle = spent[3] + spent[4]
        return (1 - idle / sum(spent)) * (os.cpu_count() or 1)
    except (OSError, ValueError, ZeroDivisionError):
        return os.getloadavg()[0]


def describe_machine() -> dict[str, Any]:
    cpu = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "cpu": cpu,
        "cores": os.cpu_count(),
        "memory_gb": round(memory / 2**30),
        "os": platform.platform(),
    }


def not_idle(rows: list[dict[str, Any]]) -> list[str]:
    """A line that says so, if others used the machine before one of the measurements."""
    most = max(row["busy_cores_before"] for row in rows)
    if most <= MAX_BUSY_CORES:
        return []
    return ["", f"- NOT an idle machine: others used up to {most:.1f} cores. Do not quote these numbers"]


def publish(lines: list[str], markdown: str | Path | None) -> None:
    """Prints the result, and writes it to the file that the user named."""
    text = "\n".join(lines).rstrip() + "\n"
    print(text)
    if markdown:
        Path(markdown).write_text(text)


def last_json(
    command: list[str], threads: int, cwd: Path | None = None, timeout: float | None = None
) -> dict[str, Any]:
    """Runs the command and reads the last JSON line that it prints; ends with its error output if it fails."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS")
    env = {**os.environ, **{name: str(threads) for name in names}}
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=cwd, timeout=timeout)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        sys.exit(f"benchmark: {' '.join(command)}\nended with {done.returncode}:\n{done.stderr[-3000:]}")
    result: dict[str, Any] = json.loads(lines[-1])
    return result


def header(machine: dict[str, Any], environment: dict[str, Any], settings: dict[str, Any]) -> list[str]:
    commit = str(environment.get("commit") or "unknown")[:12] + (" + changes" if environment.get("dirty") else "")
    versions = ", ".join(f"{name} {number}" for name, number in environment.get("versions", {}).items())
    text = ", ".join(f"{name} {value}" for name, value in settings.items())
    return [
        f"- date {machine['date']}, commit {commit}",
        f"- machine: {machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB",
        f"- {versions}",
        f"- {text}",
    ]


def median(rows: list[Measurement], name: str) -> float | None:
    values = [row[name] for row in rows if row.get(name) is not None]
    return statistics.median(values) if values else None


def ratio(ours: list[Measurement], theirs: list[Measurement], name: str) -> float | None:
    """Median over the rounds of ours/theirs: the two of a round ran one after the other, on the same machine's mood."""
    by_round = {row["round"]: row[name] for row in theirs if row.get(name)}
    ratios = [row[name] / by_round[row["round"]] for row in ours if row["round"] in by_round and row.get(name)]
    return statistics.median(ratios) if ratios else None


def groups(rows: list[Measurement], *names: str) -> list[tuple[tuple[Any, ...], list[Measurement]]]:
    """The rows of each combination of values, in the order of their first."""
    keys = dict.fromkeys(tuple(row.get(name) for name in names) for row in rows)
    return [(key, [row for row in rows if tuple(row.get(name) for name in names) == key]) for key in keys]


def whole(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"


def one(value: float | None) -> str:
    return "" if value is None else f"{value:,.1f}"
