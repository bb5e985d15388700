#!/usr/bin/env python3
"""How training scales: one and two processes with a thread each, what they tell each other, and a projection.

    scripts/benchmarks/scaling.py --data data/ml-1m-sasrec --markdown table.md      some minutes on two idle cores
    scripts/benchmarks/scaling.py --items 500 --steps 3 --even-if-busy              to try it: a made log

SASRec (two layers, one head), `Trainer(strategy="ddp")`. Strong: a step has `--batch` windows whatever the number of
processes. Weak: each process has as many. Dense: the whole table on each process, full cross-entropy. Sharded: the
table divided, full cross-entropy, and row-wise Adagrad with 256 negatives that a batch shares. `speed-up` are targets
per second beside one process; `by processor` the same from processor seconds of the process that takes most, which
other programs disturb less. `sent` are the bytes that a process wrote in a step (/proc/self/io), `computed` what
`recsys-lab estimate` says, which counts rows that occur twice as two.

The last table is computed. A GPU is taken to do `--tflops` of products, to send `--inside` GB/s within a node of 8 and
`--between` GB/s to other nodes, and to wait while it sends: nothing overlaps. Waiting for the slowest is not in it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness import Row, busy_cores, child, groups, head, line, measured, median, not_idle, parser_of, publish, run

SIDE = Path(__file__).with_name("sharding.py")
KINDS = {"dense": ("adam", False), "sharded": ("adam", True), "sharded, sampled": ("rowwise_adagrad", True)}
WAYS = (("one", 1), ("strong", 2), ("weak", 2))
NODE = 8
NEGATIVES = 256
PROJECTED = (
    ("3,416 items, width 64, 128 windows of 200", 3_416, 64, 25_600, ("dense", "sharded")),
    ("50 million items, width 128, 512 windows of 50", 50_000_000, 128, 25_600, ("sharded, sampled", "sharded")),
)
"""A name, items, width, positions of a process in a step, kinds."""


def main() -> int:
    parser = parser_of(__doc__, "scaling.jsonl")
    parser.add_argument("--data", help="a prepared set (default: a made log)")
    parser.add_argument("--items", type=int, default=50_000, help="of the made log (default 50000)")
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--length", type=int, default=200)
    parser.add_argument("--batch", type=int, default=64, help="windows of a step (strong), or of each process (weak)")
    parser.add_argument("--steps", type=int, default=20, help="measured, after two others")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--tflops", type=float, default=50.0, help="that a GPU reaches (default 50)")
    parser.add_argument("--inside", type=float, default=150.0, help="GB/s of a GPU within a node (default 150)")
    parser.add_argument("--between", type=float, default=20.0, help="GB/s of a GPU between nodes (default 20)")
    parser.set_defaults(threads=1)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.data
        if folder is None:
            from sharding import make

            folder = str(Path(scratch) / "made")
            make(Path(folder), args.items)
        settings = {name: getattr(args, name) for name in ("dim", "length", "batch", "steps")}
        rows, lines = measured(measurements(args, folder, settings), args, data=args.data or args.items, **settings)
    return publish([*lines, *not_idle(rows), *scaled(rows), *projection(rows, args)], args.markdown)


def measurements(args: argparse.Namespace, folder: str, settings: Row) -> Iterator[Row]:
    for number in range(args.rounds):
        for kind in args.kinds:
            optimizer, divided = KINDS[kind]
            for way, processes in WAYS:
                job = {"optimizer": optimizer, "divided": divided, "processes": processes}
                sizes = settings | {"batch": args.batch * (processes if way == "weak" else 1), "folder": folder}
                row = {"kind": kind, "way": way, "processes": processes, "round": number}
                row["busy_cores_before"] = busy_cores(1.0)
                found = child(SIDE, args.threads, **{**job, **sizes, "kind": "fit"})
                yield {**row, **found}


def scaled(rows: list[Row]) -> list[str]:
    titles = ("table", "scaling", "targets of a step", "targets/s", "speed-up", "by processor")
    lines = head(*titles, "sent MB", "computed MB")
    for row in rows:
        row |= {"rate": row["targets"] / row["wall_s"], "cpu_rate": row["targets"] / row["cpu_s"]}
    for (kind, way), here in groups(rows, "kind", "way"):
        alone = [row for row in rows if row["kind"] == kind and row["way"] == "one"]
        faster = [f"{_of(here, name) / _of(alone, name):.2f}" for name in ("rate", "cpu_rate")]
        sent = [f"{_of(here, name):.3f}" if way != "one" else "" for name in ("sent_mb", "computed_mb")]
        lines.append(line(kind, way, f"{_of(here, 'targets'):,.0f}", f"{_of(here, 'rate'):,.0f}", *faster, *sent))
    return lines


def _of(rows: list[Row], name: str) -> float:
    found = median(rows, name)
    assert found is not None
    return found


def projection(rows: list[Row], args: argparse.Namespace) -> list[str]:
    lines = head("computed", "table", "GPUs", "sent MB", "products ms", "sending ms", "speed-up at most")
    for name, items, width, positions, kinds in PROJECTED:
        encoder = 2 * 12 * width**2 + 200 * width  # weights of two layers, and the positions
        for kind in kinds:
            for many in (1, NODE, 8 * NODE):
                sent = _sent(kind, items, width, positions, encoder, many)
                products, sending = seconds(kind, items, width, positions, encoder, many, sent, args)
                alone = seconds(kind, items, width, positions, encoder, 1, 0, args)[0]
                shown = [f"{number:,.2f}" for number in (sent / 1e6, 1e3 * products, 1e3 * sending)]
                lines.append(line(name, kind, many, *shown, f"{many * alone / (products + sending):.1f}"))
    return lines


def seconds(
    kind: str, items: int, width: int, positions: int, encoder: int, many: int, sent: float, args: Any
) -> tuple[float, float]:
    """Of the products and of sending in a step of one GPU among `many`, each with its own windows (weak scaling)."""
    per_logit = (8 if KINDS[kind][1] and many > 1 else 6) * width  # a divided table's logits are made twice
    logits = 6 * width * (1 + NEGATIVES) if "sampled" in kind else per_logit * items
    rate = args.inside if many <= NODE else args.between
    return positions * (6.0 * encoder + logits) / (args.tflops * 1e12), sent / (rate * 1e9)


def _sent(kind: str, items: int, width: int, positions: int, encoder: int, many: int) -> float:
    from recsys_lab.losses import CrossEntropy, SampledSoftmax
    from recsys_lab.runs.fit.formulas import ModelSize, TableSize

    if many == 1:
        return 0.0
    table, loss = TableSize(items, 4 * width * items), SampledSoftmax() if "sampled" in kind else CrossEntropy()
    dense = 4 * encoder + table.vectors
    size = ModelSize(dense, 0, 0, dense, width, 2, 1, 200, loss, NEGATIVES, table, own_negatives=False)
    return (size.divided(many) if KINDS[kind][1] else size).sent(positions, many)


if __name__ == "__main__":
    sys.exit(run(main, {}))
