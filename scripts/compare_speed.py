"""How long `recsys-lab compare` takes: made-up runs of many users, the default test, the bootstrap and the sign flips.

    python scripts/compare_speed.py                       # 10 runs x 100,000 users
    python scripts/compare_speed.py --users 1000000 --threads 2

Each comparison is a process of its own; prints its seconds (wall and CPU) and its peak memory.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

TESTS = {
    "default (t, BCa intervals)": [],
    "--test bootstrap": ["--test", "bootstrap"],
    "--test sign_flip": ["--test", "sign_flip"],
}


def make_runs(root: Path, runs: int, users: int) -> None:
    """Run folders as `fit` leaves them: one target per user, each run a little better than the one before."""
    draw = np.random.default_rng(0)
    difficulty = draw.lognormal(3, 1.5, users)
    for number in range(runs):
        folder = root / f"model{number}" / "seed0"
        folder.mkdir(parents=True)
        rank = np.ceil(difficulty * draw.lognormal(0, 1, users) * (1 - 0.01 * number))
        evaluation = {"dataset": "made", "data_hash": "d", "vocabulary_hash": "v", "split": "leave_one_out (leaky)"}
        evaluation |= {"split_hash": "s", "exclude_seen": "history", "ties": "expected", "cold_targets": "miss"}
        manifest = {"study": "made", "variant": f"model{number}", "model": "SASRec", "loss": "CrossEntropy", "seed": 0}
        manifest |= {"stopped_by": "patience", "evaluation": evaluation | {"test_targets": users}}
        (folder / "manifest.json").write_text(json.dumps(manifest))
        (folder / "metrics.json").write_text("{}")
        pl.DataFrame(
            {
                "user_id": np.arange(users),
                "target_item_id": np.arange(users) % 9973,
                "query_time": np.zeros(users, dtype=np.int64),
                "rank": rank,
                "num_greater": rank.astype(np.int64) - 1,
                "num_ties": np.zeros(users, dtype=np.int64),
                "num_candidates": np.full(users, 9973),
                "is_cold": np.zeros(users, dtype=bool),
                "is_hidden": np.zeros(users, dtype=bool),
            }
        ).write_parquet(folder / "ranks.parquet")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    chosen = parser.parse_args()
    threads = {name: str(chosen.threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS")}
    print(f"{chosen.runs} runs x {chosen.users:,} users, {chosen.threads} threads")
    with tempfile.TemporaryDirectory() as folder:
        make_runs(Path(folder), chosen.runs, chosen.users)
        for name, options in TESTS.items():
            command = [sys.executable, "-m", "recsys_lab.cli", "compare", folder, *options]
            before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
            # a process of its own per comparison, and one that waits for it, whose peak is that of this comparison
            measure = (
                "import resource, subprocess, sys; done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL); "
                "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(done.returncode)"
            )
            done = subprocess.run(
                [sys.executable, "-c", measure, *command],
                env={**os.environ, **threads},
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
            cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            peak = int(done.stdout) / 1024  # Linux counts in KB
            print(f"  {name:28s}{wall:7.1f} s, {cpu:7.1f} s of CPU, {peak:7.0f} MB", flush=True)


if __name__ == "__main__":
    main()
