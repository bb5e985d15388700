"""What planning and launching a study cost: 10,000 runs planned, overhead per run, two workers against one.

    python scripts/benchmark_study.py [--rounds 3] [--output FILE.jsonl]

Made data, nothing else running. Each comparison is taken in turn within a round; medians are printed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BASE = """
base:
  data.dataset: synthetic
  data.max_length: 20
  data.batch_size: 64
  model: SASRec
  model.embedding_dim: 32
  trainer.accelerator: cpu
  trainer.devices: 1
  trainer.max_epochs: {epochs}
  early_stopping.patience: 100
"""
LARGE = """
axes:
  model: [SASRec, GRU4Rec, LSTMAttention]
  loss: [CrossEntropy, GBCE, BPRMax, BPR]
  data.max_length: [10, 20, 50, 100, 200]
  model.optimization.lr: [1.0e-4, 2.0e-4, 5.0e-4, 1.0e-3, 2.0e-3]
  model.dropout: [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
  data.batch_size: [32, 64, 128]
seeds: 2
"""
SMALL = "seeds: 4\n"
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"}


def seconds_of(command: list[str], cwd: Path) -> float:
    start = time.perf_counter()
    subprocess.run(command, cwd=cwd, env=ONE_THREAD, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "recsys_lab.cli", *words]


def planning(folder: Path) -> dict[str, float]:
    """Of 10,800 runs: the plan alone, in a process that has imported everything; and the whole command."""
    from recsys_lab.cli.study.resolver import Resolver
    from recsys_lab.study.plan import make_plan, read_study

    (folder / "large.yaml").write_text(BASE.format(epochs=1) + LARGE)
    start = time.perf_counter()
    plan = make_plan(read_study(folder / "large.yaml", folder / "runs"), Resolver())
    alone = time.perf_counter() - start
    whole = seconds_of(command("study", "plan", "large.yaml"), folder)
    return {"planned_runs": len(plan.runs), "plan_seconds": alone, "plan_command_seconds": whole}


def launching(folder: Path, name: str, epochs: int) -> dict[str, float]:
    """Four one-thread runs: by hand one after another, by the study with one worker, with two workers."""
    file = folder / f"{name}.yaml"
    file.write_text(f"name: {name}\n" + BASE.format(epochs=epochs) + SMALL)
    study = command("study", "run", file.name, "--threads", "1", "--workers")
    one = seconds_of([*study, "1", "--root", "one"], folder)
    two = seconds_of([*study, "2", "--root", "two"], folder)
    started = sorted((folder / "one" / name).glob("*/seed*/run.yaml"))
    by_hand = sum(
        seconds_of(command("fit", "--config", str(path), "--run.folder", f"hand/{name}/{path.parent.name}"), folder)
        for path in started
    )
    runs = len(started)
    return {
        "runs": runs,
        "by_hand_seconds": by_hand,
        "one_worker_seconds": one,
        "two_workers_seconds": two,
        "overhead_per_run_seconds": (one - by_hand) / runs,
        "two_over_one": two / one,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=10, help="of each small run (default 10)")
    parser.add_argument("--output", type=Path, help="JSON lines, one per round")
    chosen = parser.parse_args()
    rounds = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        seconds_of(command("prepare", "synthetic"), folder)
        for i in range(chosen.rounds):
            rounds.append(planning(folder) | launching(folder, f"small{i}", chosen.epochs))
            print(json.dumps(rounds[-1]), flush=True)
            if chosen.output is not None:
                with chosen.output.open("a") as file:
                    file.write(json.dumps(rounds[-1]) + "\n")
    for key in rounds[0]:
        print(f"{key:28s}{statistics.median(one[key] for one in rounds):10.2f}")


if __name__ == "__main__":
    main()
