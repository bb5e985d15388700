#!/usr/bin/env python3
"""What each loss costs, against the matrix product that it can't do without; and what each optimiser of a large table
costs.

    scripts/benchmarks/losses.py                                     the standard sizes: some minutes
    scripts/benchmarks/losses.py --only memory --memory 25600:1000000 --way chunked       10 TFLOP: minutes more
    scripts/benchmarks/losses.py --only step --step 1000000 --step 5000000

Three tables. Speed: forward and backward of each loss on the same made states and table, in turn, medians; GFLOP/s of
the three products of full cross-entropy (6 x positions x items x width operations), beside one plain float32 product of
the same sizes, and the largest relative difference of loss and gradients from `chunked`, the default. Memory: what a
loss takes at its peak beyond inputs, weights and their gradients. Step: training steps of SASRec with sampled softmax
under dense and row-sparse optimisers. Every memory and step measurement is a process of its own.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from harness import busy_cores, describe_machine, header, last_json, not_idle, one, publish, require_idle, whole

HERE = Path(__file__).resolve().parent
SPEED = [(6_400, 1_682), (6_400, 3_416), (6_400, 12_101), (3_200, 50_000), (256, 1_000_000)]
MEMORY = [(6_400, 12_101), (1_024, 1_000_000)]
KINDS = ("speed", "memory", "step")
WAYS = (
    *("chunked", "chunked, in blocks", "full"),
    *("SampledSoftmax, 256 shared", "BCE, 16 own", "BCE, 16 own, gathered"),
)
OPTIMIZERS = ("adam", "sparse_adam", "rowwise_adagrad")


def main() -> int:
    args = parse_args()
    if not require_idle(args.even_if_busy):
        return 2
    machine, rows = describe_machine(), []
    shared = {"width": args.width, "threads": args.threads, "rounds": args.rounds}
    with open(args.out, "a") as out:
        for job in jobs(args):
            busy = busy_cores()
            command = [sys.executable, str(HERE / "losses_jobs.py"), json.dumps({**shared, **job})]
            row = {"busy_cores_before": busy, **last_json(command, args.threads)}
            rows.append(row)
            out.write(json.dumps({**machine, **row}) + "\n")
            out.flush()
            print(
                f"{job['kind']} {job.get('way') or job.get('optimizer') or ''} {job['items']:,} items: done",
                file=sys.stderr,
            )
    lines = [*header(machine, rows[-1]["environment"], shared), *tables(rows)]
    publish([*lines, *not_idle(rows)], args.markdown)
    return 0


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--size", action="append", type=pair, metavar="POSITIONS:ITEMS", help="of speed; repeatable")
    add("--memory", action="append", type=pair, metavar="POSITIONS:ITEMS", help="of memory; repeatable")
    add("--step", action="append", type=int, metavar="ITEMS", help="of step; repeatable (default 1000000)")
    add("--step-positions", type=int, default=6_400, help="targets of a step, 50 a row (default 6400)")
    add("--way", action="append", choices=WAYS, help="only this loss; repeatable")
    add("--optimizer", action="append", choices=OPTIMIZERS, help="of step, only this; repeatable")
    add("--only", choices=KINDS, nargs="+", default=list(KINDS), help="measure only these")
    add("--width", type=int, default=64, help="D (default 64)")
    add("--rounds", type=int, default=3, help="after a first that is not counted (default 3)")
    add("--threads", type=int, default=2)
    add("--out", default="benchmark_losses.jsonl", help="one JSON line per measurement is appended")
    add("--markdown", help="also write the tables to this file")
    add("--even-if-busy", action="store_true", help="measure although other processes use the machine")
    args = parser.parse_args()
    args.size, args.memory, args.step = args.size or SPEED, args.memory or MEMORY, args.step or [1_000_000]
    return args


def pair(text: str) -> tuple[int, int]:
    positions, _, items = text.partition(":")
    if not positions.isdigit() or not items.isdigit() or not int(positions) or int(items) < 2:
        raise argparse.ArgumentTypeError(f"{text!r} is not POSITIONS:ITEMS")
    return int(positions), int(items)


def jobs(args: argparse.Namespace) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    if "speed" in args.only:
        found += [{"kind": "speed", "positions": n, "items": v, "ways": args.way} for n, v in args.size]
    if "memory" in args.only:
        for n, v in args.memory:
            ways = [way for way in args.way or WAYS if fits(way, n, v)]
            found += [{"kind": "memory", "positions": n, "items": v, "way": way} for way in ways]
    if "step" in args.only:
        step = {"kind": "step", "positions": args.step_positions, "length": 50}
        found += [
            {**step, "items": v, "optimizer": optimizer}
            for v in args.step
            for optimizer in args.optimizer or OPTIMIZERS
        ]
    return found


def fits(way: str, positions: int, items: int) -> bool:
    """As `losses_jobs.losses` leaves out what would take too much memory or time."""
    return way != "full" or positions * items <= 5e8


def tables(rows: list[dict[str, Any]]) -> list[str]:
    of = {kind: [row for row in rows if row["kind"] == kind] for kind in KINDS}
    lines: list[str] = []
    if of["speed"]:
        lines += head("positions", "items", "loss", "ms", "GFLOP/s", "of the plain product's", "difference")
    for row in of["speed"]:
        size = (f"{row['positions']:,}", f"{row['items']:,}")
        for way, seconds in row["seconds"].items():
            exact = not way.startswith(("SampledSoftmax", "BCE"))
            gflops = 6 * row["positions"] * row["items"] * row["width"] / seconds / 1e9
            speed = (one(gflops), f"{gflops / row['product_gflops']:.2f}") if exact else ("", "")
            lines.append(line(*size, way, one(1000 * seconds), *speed, f"{row['errors'][way]:.0e}"))
        lines.append(line(*size, "the plain product", "", one(row["product_gflops"]), "1.00", ""))
    if of["memory"]:
        lines += head("positions", "items", "loss", "extra MB at the peak", "gradients MB", "s")
    for row in of["memory"]:
        numbers = (whole(row["extra_mb"]), whole(row["gradients_mb"]), one(row["seconds"]))
        lines.append(line(f"{row['positions']:,}", f"{row['items']:,}", row["way"], *numbers))
    if of["step"]:
        lines += head("SASRec, sampled softmax: positions", "items", "optimizer", "ms a step", "peak MB")
    for row in of["step"]:
        numbers = (one(1000 * row["seconds"]), whole(row["peak_mb"]))
        lines.append(line(f"{row['positions']:,}", f"{row['items']:,}", row["optimizer"], *numbers))
    return lines


def head(*names: str) -> list[str]:
    return ["", line(*names), "|" + "---|" * len(names)]


def line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())
