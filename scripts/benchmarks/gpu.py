#!/usr/bin/env python3
"""One table of what a GPU makes of training and evaluation, in a few minutes.

    scripts/benchmarks/gpu.py --minutes 8 --markdown docs/gpu.md            one GPU, or two for the last table
    scripts/benchmarks/gpu.py --size tiny --device cpu --even-if-busy       the same code on a processor, in seconds

Made data in two shapes: `ml-1m` (as many users, items and events as MovieLens-1M) and `million` (a million items).
Tables, the most wanted first; what no time is left for is named at the end:

    fit      epochs through Lightning: targets/s, evaluation users/s, the share of time between two steps (making
             batches and Lightning's loop), peak memory
    step     steps on one batch that stays the same: forward, backward, optimiser; eager, compiled, and compiled with
             CUDA graphs (`reduce-overhead`)
    loss     ways to the full cross-entropy, by losses.py
    same     whether two runs with one seed end with the same weights, bit for bit
    ddp      two devices against one

`of the peak` is what share of a large square product's speed in the same precision the step reaches; a step counts as
6 operations for each parameter beside the item table and event, and 6 for each target, item and number of the width.
Precisions: `float32`, `tf32` (products with 10 bits of mantissa) and `bf16` (bf16-mixed).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gpu_side import SIZES
from harness import Row, busy_cores, head, last_json, line, measured, not_idle, parser_of, publish

ENCODERS = ("GRU4Rec", "LSTMAttention", "SASRec")


def main() -> int:
    parser = parser_of(__doc__, "benchmark_gpu.jsonl", rounds=3)
    add = parser.add_argument
    add("--minutes", type=float, default=8.0, help="nothing begins after this, and what runs then is stopped")
    add("--device", choices=("cuda", "cpu"), default="cuda", help="default cuda")
    add("--size", choices=list(SIZES), default="full", help="tiny: to try the script (default full)")
    add("--width", type=int, default=64, help="D (default 64)")
    add("--compile", action=argparse.BooleanOptionalAction, default=True, help="also compiled (default yes)")
    add("--only", nargs="+", choices=list(TABLES), default=list(TABLES), help="only these tables")
    args = parser.parse_args()
    if args.device == "cuda" and not last_json(command(kind="devices"), args.threads)["cuda"]:
        parser.error("torch finds no CUDA device here; `--size tiny --device cpu` tries the script without one")
    left_out: list[str] = []
    rows, lines = measured(measurements(args, left_out), args, device=args.device, size=args.size, width=args.width)
    for kind in args.only:
        lines += TABLES[kind]([row for row in rows if row["table"] == kind])
    if left_out:
        lines += ["", f"Not measured: {'; '.join(left_out)}."]
    return publish([*lines, *not_idle(rows)], args.markdown)


def measurements(args: argparse.Namespace, left_out: list[str]) -> Iterator[Row]:
    ends = time.monotonic() + 60 * args.minutes
    with tempfile.TemporaryDirectory() as folder:
        shared = {name: getattr(args, name) for name in ("device", "size", "width", "rounds", "compile")}
        for job in jobs(args):
            left = ends - time.monotonic()
            name = " ".join(str(job[key]) for key in ("table", "data", "encoder", "loss") if key in job)
            row = {"table": job["table"], "busy_cores_before": busy_cores(1.0)}
            try:
                if left <= 0:
                    raise subprocess.TimeoutExpired(name, 0)
                arguments = command(kind="measure", folder=folder, threads=args.threads, **shared, **job)
                for found in last_json(arguments, args.threads, timeout=left)["rows"]:
                    yield {**row, **found}
            except subprocess.TimeoutExpired:
                left_out.append(f"{name} (no time was left)")


def jobs(args: argparse.Namespace) -> Iterator[Row]:
    """In the order of how much they are wanted."""
    every: list[Row] = []
    every += [{"table": "fit", "data": "ml-1m", "encoder": name, "loss": "CrossEntropy"} for name in ENCODERS]
    every += [{"table": "step", "data": "ml-1m", "encoder": name} for name in ENCODERS]
    every += [{"table": "loss"}, {"table": "same", "data": "ml-1m", "encoders": ENCODERS}]
    every += [{"table": "ddp", "data": "ml-1m", "encoder": "SASRec", "devices": many} for many in (1, 2)]
    losses = ("SampledSoftmax", "CrossEntropy")
    every += [{"table": "fit", "data": "million", "encoder": "SASRec", "loss": loss} for loss in losses]
    yield from (job for job in every if job["table"] in args.only)


def command(**job: Any) -> list[str]:
    return [sys.executable, str(Path(__file__).with_name("gpu_side.py")), "--job", json.dumps(job)]


# -- tables ------------------------------------------------------------------------------------------------------------


def fit_table(rows: list[Row]) -> list[str]:
    titles = ("data", "encoder", "loss", "precision", "way", "targets/s", "of the peak", "between steps")
    lines = head(*titles, "evaluation users/s", "peak MB")
    for row in rows:
        names = (row["data"], row["encoder"], row["loss"], row["precision"], row["way"])
        speed = (f"{row['targets_s']:,.0f}", f"{row['of_peak']:.1%}", f"{row['between_steps']:.0%}")
        lines.append(line(*names, *speed, f"{row['users_s']:,.0f}", f"{row['peak_mb']:,.0f}"))
    return lines if rows else []


def step_table(rows: list[Row]) -> list[str]:
    lines = head("encoder", "precision", "way", "ms a step", "targets/s", "of the peak")
    for row in rows:
        names = (row["encoder"], row["precision"], row["way"])
        if row["failed"]:
            lines.append(line(*names, row["failed"], "", ""))
        else:
            speed = (f"{1000 * row['step_s']:.2f}", f"{row['targets_s']:,.0f}", f"{row['of_peak']:.1%}")
            lines.append(line(*names, *speed))
    return lines if rows else []


def loss_table(rows: list[Row]) -> list[str]:
    lines = head("positions", "items", "loss", "ms", "of the plain product's", "extra MB at the peak")
    for row in rows:
        numbers = (f"{1000 * row['seconds']:,.2f}", f"{row['of_product']:.2f}", f"{row['extra_mb']:,.0f}")
        lines.append(line(f"{row['positions']:,}", f"{row['items']:,}", row["way"], *numbers))
    return lines if rows else []


def same_table(rows: list[Row]) -> list[str]:
    lines = head("encoder", "precision", "two runs with one seed")
    for row in rows:
        lines.append(line(row["encoder"], row["precision"], "equal, bit for bit" if row["equal"] else "NOT equal"))
    return lines if rows else []


def ddp_table(rows: list[Row]) -> list[str]:
    lines = head("encoder", "devices", "targets/s")
    for row in rows:
        lines.append(
            line(row["encoder"], row["devices"], f"{row['targets_s']:,.0f}" if row["targets_s"] else "one GPU")
        )
    return lines if rows else []


TABLES = {"fit": fit_table, "step": step_table, "loss": loss_table, "same": same_table, "ddp": ddp_table}


if __name__ == "__main__":
    sys.exit(main())
