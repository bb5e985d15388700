#!/usr/bin/env python3
"""Whether `recsys-lab estimate` is right: what it says of three fits, beside what they take.

    scripts/benchmarks/estimates.py                                        # prepares MovieLens itself
    scripts/benchmarks/estimates.py --data ml-100k=data/a --data ml-1m-sasrec=data/b --cases ml-100k

The fits: SASRec on MovieLens-100K and GRU4Rec on MovieLens-1M as configs/ has them, and SASRec with a sampled loss and
row-sparse updates on a made log of 200,000 items. A round estimates and then fits, each in a process of its own.
Compared are the peak memory of the process, processor seconds of an epoch (of the epochs after the first: these say the
same on a busy machine), seconds by the clock, and the bytes of the run folder with the prepared data. The exit code is
1 where the median of a ratio is more than 20 % off in memory, processor seconds or disk.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness import (
    Row,
    busy_cores,
    child,
    groups,
    head,
    line,
    measured,
    median,
    not_idle,
    parser_of,
    peak_mb,
    publish,
    run,
)

MADE = {"users": 3_000, "items": 200_000, "events": 400_000}
SAMPLED = "--model SASRec --model.loss SampledSoftmax --model.negatives UniformNegatives --model.embedding_dim 64"
CASES = {
    "ml-100k": ["--config", "ml-100k/sasrec"],
    "ml-1m-sasrec": ["--config", "ml-1m-sasrec/gru4rec"],
    "made-200k": [*SAMPLED.split(), "--model.optimization.optimizer", "sparse_adam"],
}
COMPARED = {"memory MB": "memory_mb", "processor s": "processor_s", "clock s": "clock_s", "disk MB": "disk_mb"}
MOST = 0.2


def main() -> int:
    parser = parser_of(__doc__, "estimates.jsonl", rounds=1)
    parser.add_argument("--data", action="append", default=[], metavar="NAME=FOLDER", help="a prepared set; repeatable")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--epochs", type=int, default=3, help="of the fits (default 3)")
    args = parser.parse_args()
    rows, lines = measured(measurements(args), args, epochs=args.epochs)
    lines += table(rows)
    publish([*lines, *not_idle(rows)], args.markdown)
    return 1 if any(abs(off(here, name)) > MOST for _, here in groups(rows, "case") for name in held()) else 0


def held() -> list[str]:
    return [name for name in COMPARED.values() if name != "clock_s"]


def off(rows: list[Row], name: str) -> float:
    """Share by which the estimate is above (or below) what was taken: the median of the rounds."""
    both = [{"ratio": row[f"said_{name}"] / row[f"took_{name}"] - 1} for row in rows]
    found = median(both, "ratio")
    assert found is not None
    return found


def measurements(args: Any) -> Iterator[Row]:
    folders = dict(one.split("=", 1) for one in args.data)
    with tempfile.TemporaryDirectory(prefix="estimates-") as scratch:
        if "made-200k" in args.cases:
            folders["made-200k"] = child(__file__, args.threads, kind="make", folder=scratch, **MADE)["folder"]
        for turn in range(args.rounds):
            for case in args.cases:
                words = [*CASES[case], "--trainer.accelerator", "cpu", "--trainer.max_epochs", str(args.epochs)]
                if case in folders:
                    words += ["--data.dataset", folders[case]]
                busy = busy_cores(1.0)
                said = child(__file__, args.threads, kind="say", words=words)
                own = {"folder": f"{scratch}/run", "dataset": folders.get(case, case)}
                took = child(__file__, args.threads, kind="take", words=words, **own)
                shutil.rmtree(f"{scratch}/run")
                yield {"case": case, "round": turn, "busy_cores_before": busy, **said, **took}


def table(rows: list[Row]) -> list[str]:
    lines = head("case", "of", "estimate", "taken", "off by")
    for (case,), here in groups(rows, "case"):
        for title, name in COMPARED.items():
            said, took = (median(here, f"{which}_{name}") for which in ("said", "took"))
            lines.append(line(case, title, f"{said:.4g}", f"{took:.4g}", f"{off(here, name):+.0%}"))
    return lines


# -- in a process of its own -------------------------------------------------------------------------------------------


def make(job: Row) -> Row:
    """A made log, prepared: each item has an event."""
    import numpy as np
    import polars as pl

    from recsys_lab.data.batches.epoch_size import drawn_lengths
    from recsys_lab.data.datamodule import SequenceDataModule

    rng, lengths = np.random.default_rng(0), drawn_lengths(job["users"], job["events"])
    total = int(lengths.sum())
    items = np.exp(rng.random(total) * np.log(job["items"])).astype(np.int64)
    items[rng.permutation(total)[: job["items"]]] = np.arange(job["items"])
    frame = {"user_id": np.repeat(np.arange(len(lengths)), lengths), "item_id": items, "timestamp": np.arange(total)}
    data = SequenceDataModule.from_frames(pl.DataFrame(frame), name="made-200k", data_dir=job["folder"])
    return {"folder": str(Path(data.data_dir) / data.dataset)}


def say(job: Row) -> Row:
    from recsys_lab.runs.fit.fit_estimate import estimate

    found = estimate(job["words"])
    return {
        "said_memory_mb": found.memory_total / 2**20,
        "said_processor_s": found.processor_seconds_per_epoch,
        "said_clock_s": found.seconds_per_epoch,
        "said_disk_mb": found.disk_total / 1e6,
        "steps": found.measured_steps,
    }


def take(job: Row) -> Row:
    """The fit, with its test."""
    from recsys_lab.runs.fit import command_line
    from recsys_lab.runs.throughput import Throughput

    marks: list[tuple[float, float]] = []

    class Marked(Throughput):
        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            marks.append((time.process_time(), time.perf_counter()))
            super().on_train_epoch_end(trainer, pl_module)

    command_line.Throughput = Marked  # type: ignore[misc]
    folder = Path(job["folder"])
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    command_line.run(["fit", *job["words"], "--run.folder", str(folder), "--trainer.enable_progress_bar", "false"])
    sys.stdout = sys.__stdout__
    from recsys_lab.data.locate import find_prepared
    from recsys_lab.runs.environment import describe_environment

    data = find_prepared(job["dataset"])
    assert data is not None
    files = [path for path in (*folder.rglob("*"), *data.path.rglob("*")) if path.is_file()]
    epochs = len(marks) - 1
    return {
        "took_memory_mb": peak_mb(),
        "took_processor_s": (marks[-1][0] - marks[0][0]) / epochs,
        "took_clock_s": (marks[-1][1] - marks[0][1]) / epochs,
        "took_disk_mb": sum(path.stat().st_size for path in files) / 1e6,
        "environment": describe_environment(),
    }


if __name__ == "__main__":
    sys.exit(run(main, {one.__name__: one for one in (make, say, take)}))
