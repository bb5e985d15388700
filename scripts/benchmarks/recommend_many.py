#!/usr/bin/env python3
"""Lists of 100 for many users who were never seen, by `recsys-lab recommend`: seconds and memory.

    python scripts/benchmarks/recommend_many.py --users 1000000 --markdown table.md
    python scripts/benchmarks/recommend_many.py --users 50000                          # a twentieth of it

The model is a SASRec of 100,000 items with vectors of 64 numbers. Each user has five events in one Parquet file, with
their times, and the lists go to another one. It is the whole command that is measured, from its start to its end.
`ready` is the memory of a command that makes the lists of ten users: what each of more users adds is beyond it.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from harness import Row, busy_cores, child, groups, head, line, measured, median, not_idle, parser_of, publish, run
from serving import made_checkpoint

EVENTS = 5


def make(job: Row) -> Row:
    """The checkpoint, and a file with the events of the users."""
    import numpy as np
    import polars as pl

    from recsys_lab.runs.environment import describe_environment

    folder, draw = Path(job["folder"]), np.random.default_rng(0)
    for users in (10, job["users"]):
        user, place = np.repeat(np.arange(users), EVENTS), np.tile(np.arange(EVENTS), users)
        item = draw.integers(0, job["items"], len(user))
        events = pl.DataFrame({"user_id": user, "item_id": item, "timestamp": place * 3600})
        events.write_parquet(folder / f"{users}.parquet")
    made = made_checkpoint(folder, "SASRec", job["items"])
    return {"path": str(made), "environment": describe_environment()}


def recommend(job: Row) -> Row:
    """The command as a process, whose peak is that of this one's children."""
    folder = Path(job["folder"])
    words = ["--input", str(folder / f"{job['users']}.parquet"), "--top", str(job["top"])]
    words += ["--output", str(folder / "lists.parquet")]
    command = [sys.executable, "-m", "recsys_lab.cli", "recommend", job["checkpoint"], *words]
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""})
    seconds = time.perf_counter() - started
    if done.returncode:
        sys.exit(done.stderr[-3000:])
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    peak = used.ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)
    size = (folder / "lists.parquet").stat().st_size / 2**20
    return {"seconds": seconds, "cpu_s": used.ru_utime + used.ru_stime, "peak_mb": peak, "file_mb": size}


def main() -> int:
    parser = parser_of(__doc__, "recommend_many.jsonl", rounds=1)
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--top", type=int, default=100)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="recommend-many-") as folder:

        def rows() -> Iterator[Row]:
            made = child(__file__, args.threads, kind="make", folder=folder, users=args.users, items=args.items)
            for number in range(args.rounds):
                job = {"folder": folder, "checkpoint": made["path"], "top": args.top}
                ready = child(__file__, args.threads, kind="recommend", users=10, **job)
                busy = busy_cores()
                row = child(__file__, args.threads, kind="recommend", users=args.users, **job)
                row |= {"ready_mb": ready["peak_mb"], "environment": made["environment"]}
                yield {"users": args.users, "round": number, "busy_cores_before": busy, **row}

        found, lines = measured(rows(), args, items=args.items, top=args.top, events=EVENTS)
    lines += head("users", "seconds", "processor seconds", "users/s", "peak MB", "ready MB", "file MB")
    for (users,), own in groups(found, "users"):
        seconds, *others = (median(own, name) for name in ("seconds", "cpu_s", "peak_mb", "ready_mb", "file_mb"))
        cells = [f"{others[0]:,.0f}", f"{users / seconds:,.0f}", *(f"{value:,.0f}" for value in others[1:])]
        lines.append(line(f"{users:,}", f"{seconds:,.0f}", *cells))
    return publish(lines + not_idle(found), args.markdown)


JOBS = {"make": make, "recommend": recommend}

if __name__ == "__main__":
    sys.exit(run(main, JOBS))
