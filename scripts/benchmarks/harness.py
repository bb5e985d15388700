"""What all benchmarks share: the machine and whether it was idle, a process per measurement, medians, ratios, tables.

A benchmark ends with `sys.exit(run(main, JOBS))`: called with `--job JSON`, it is one measurement in a process of its
own, which prints a JSON line. So nothing heavy is imported at the top of a file: a child's peak memory starts at that
of its parent.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import logging
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

OURS = "recsys-lab"
MAX_BUSY_CORES = 0.3
Row = dict[str, Any]
"""A measurement."""

QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "devices": 1,
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
}
"""A Trainer that prints and writes nothing."""


# -- one measurement ---------------------------------------------------------------------------------------------------


def run(main: Callable[[], int], jobs: dict[str, Callable[[Row], Row]]) -> int:
    """The benchmark, or the measurement that `--job` asks this process for."""
    if sys.argv[1:2] != ["--job"]:
        return main()
    warnings.filterwarnings("ignore")
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    job = json.loads(sys.argv[2])
    print(json.dumps(jobs[job["kind"]](job)))
    return 0


def child(script: str | Path, threads: int, **job: Any) -> Row:
    """What `script` measures as `job`, in a process of its own."""
    return last_json([sys.executable, str(script), "--job", json.dumps({**job, "threads": threads})], threads)


def last_json(command: list[str], threads: int, cwd: Path | None = None, timeout: float | None = None) -> Row:
    """Runs the command and reads the last JSON line that it prints; ends with its error output if it fails."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS")
    env = {**os.environ, **{name: str(threads) for name in names}}
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=cwd, timeout=timeout)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        sys.exit(f"benchmark: {' '.join(command)}\nended with {done.returncode}:\n{done.stderr[-3000:]}")
    result: Row = json.loads(lines[-1])
    return result


def peak_mb() -> float:
    """Most memory that this process had so far: imports and mapped pages of files included."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)


# -- all measurements --------------------------------------------------------------------------------------------------


def parser_of(doc: str | None, out: str, rounds: int = 3) -> argparse.ArgumentParser:
    """With the options that all benchmarks have."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--rounds", type=int, default=rounds, help=f"how often everything is measured (default {rounds})")
    add("--threads", type=int, default=2, help="of every process (default 2)")
    add("--out", default=out, help=f"one JSON line per measurement is appended (default {out})")
    add("--markdown", type=Path, help="also write the page to this file")
    add("--even-if-busy", action="store_true", help="measure although others use the machine; the page will say so")
    return parser


def measured(rows: Iterable[Row], args: argparse.Namespace, **settings: Any) -> tuple[list[Row], list[str]]:
    """All measurements, each written to `--out` and told as it comes, and the head of the page. Ends with code 2 where
    others use the machine."""
    if (busy := busy_cores()) > MAX_BUSY_CORES and not args.even_if_busy:
        print(
            f"benchmark: others use {busy:.1f} cores of this machine: numbers taken now would be wrong; wait until "
            "it is idle, or pass --even-if-busy",
            file=sys.stderr,
        )
        sys.exit(2)
    machine, environment, found = describe_machine(), {}, []
    with open(args.out, "a") as out:
        for row in rows:
            environment = row.pop("environment", environment)
            found.append(row)
            out.write(json.dumps({**machine, "commit": environment.get("commit"), **row}) + "\n")
            out.flush()
            numbers = {name: float(f"{value:.4g}") for name, value in row.items() if isinstance(value, float)}
            print(*(value for value in row.values() if isinstance(value, str)), numbers, file=sys.stderr, flush=True)
    return found, header(machine, environment, {"threads": args.threads, "rounds": args.rounds, **settings})


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


def describe_machine() -> Row:
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


# -- the page ----------------------------------------------------------------------------------------------------------


def header(machine: Row, environment: Row, settings: dict[str, Any]) -> list[str]:
    commit = str(environment.get("commit") or "unknown")[:12] + (" + changes" if environment.get("dirty") else "")
    return [
        f"- date {machine['date']}, commit {commit}",
        f"- machine: {machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB",
        "- " + ", ".join(f"{name} {number}" for name, number in environment.get("versions", {}).items()),
        "- " + ", ".join(f"{name} {value}" for name, value in settings.items()),
    ]


def not_idle(rows: list[Row]) -> list[str]:
    """A line that says so, if others used the machine before one of the measurements."""
    busy = [row["busy_cores_before"] for row in rows if row["busy_cores_before"] > MAX_BUSY_CORES]
    if not busy:
        return []
    many = f"before {len(busy)} of {len(rows)} measurements others used up to {max(busy):.1f} cores"
    return ["", f"- NOT an idle machine: {many}. Do not quote these numbers"]


def publish(lines: list[str], markdown: Path | None) -> int:
    """Prints the page, and writes it to the file that the user named."""
    text = "\n".join(lines).rstrip() + "\n"
    print(text)
    if markdown:
        markdown.write_text(text)
    return 0


def head(*titles: str) -> list[str]:
    """The first lines of a table."""
    return ["", line(*titles), "|" + "---|" * len(titles)]


def line(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def shown(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def median(rows: list[Row], name: str) -> float | None:
    values = [row[name] for row in rows if row.get(name) is not None]
    return statistics.median(values) if values else None


def ratios(ours: list[Row], theirs: list[Row], name: str) -> list[float]:
    """Ours/theirs of each round: the two of a round ran one after the other, on the same machine's mood."""
    by_round = {row["round"]: row[name] for row in theirs if row.get(name)}
    return [row[name] / by_round[row["round"]] for row in ours if row["round"] in by_round and row.get(name)]


def ratio(ours: list[Row], theirs: list[Row], name: str) -> float | None:
    """The median of `ratios`."""
    found = ratios(ours, theirs, name)
    return statistics.median(found) if found else None


def groups(rows: list[Row], *names: str) -> list[tuple[tuple[Any, ...], list[Row]]]:
    """The rows of each combination of values, in the order of their first."""
    keys = dict.fromkeys(tuple(row.get(name) for name in names) for row in rows)
    return [(key, [row for row in rows if tuple(row.get(name) for name in names) == key]) for key in keys]
