#!/usr/bin/env python3
"""What a training step of SASRec spends where: padding, making the batch, dropout, attention, compiling.

    scripts/benchmark_batches.py --data ml-100k:50 --data ml-1m-sasrec:200 --data-dir data
    scripts/benchmark_batches.py --data ml-100k:50 --batch-tokens 6400 --compile --packing --recurrent --rounds 3

Data sets are prepared ones in `--data-dir`, or known sources. Padding is counted over a whole epoch, without a model.
The rest is timed on `--steps` batches spread over an epoch, in this process: each round takes every batch once, and for
each batch the measured things in turn; times are sums over the batches of medians over the rounds. Model: 64 wide, 2
blocks, 2 heads, feed-forward 256, dropout 0.2, full cross-entropy, fused Adam; a step is forward, loss, backward and
the optimiser's step, without the Trainer around it. Dropout and attention are timed alone (forward and backward) on
tensors of the step's shapes, as often as the step has them.

    padding       share of a batch's positions that hold no event, over the epoch, 3 ways of making batches
    assembly      making the batch / (making it + the step)
    dropout, QKV, SDPA   time alone / the step; SDPA is the product of queries, keys and values, QKV their projection
    compiled/eager       time of a compiled step / an eager one, after compiling (--compile)
    packed/bucketed      time per event of windows packed into full rows under a mask / of buckets (--packing)
    LSTM/GRU             forward and backward of nn.LSTM / of nn.GRU, 64 wide (--recurrent)

One table is printed, and one JSON line per data set and way of making batches is appended to `--out`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

COLUMNS = (
    ("data", "data"),
    ("L", "max_length"),
    ("batches of", "batches_of"),
    ("batches", "batches"),
    ("padding", "padding"),
    ("without buckets", "padding_without_buckets"),
    ("assembly ms", "assembly_ms"),
    ("step ms", "step_ms"),
    ("assembly", "assembly_share"),
    ("dropout", "dropout_share"),
    ("QKV", "qkv_share"),
    ("SDPA", "sdpa_share"),
    ("compiled/eager", "compiled_ratio"),
    ("compile s", "compile_seconds"),
    ("graphs", "graphs"),
    ("graphs, 2nd epoch", "graphs_later"),
    ("packed/bucketed", "packed_ratio"),
    ("LSTM/GRU", "lstm_ratio"),
)
SHARES = {name for _, name in COLUMNS if name.endswith("_share") or name.startswith("padding")}


def main() -> int:
    args = parse_args()
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(args.threads)
    from _bench_batches import measure
    from _bench_machine import busy_cores, describe_machine

    busy = busy_cores()
    about = {**describe_machine(), "threads": args.threads, "busy_cores_before": round(busy, 2)}
    rows = []
    with open(args.out, "a") as out:
        for name, max_length in args.data:
            for batch_tokens in [None, *args.batch_tokens]:
                rows.append(measure(args, name, max_length, batch_tokens))
                out.write(json.dumps({**about, **rows[-1]}) + "\n")
                out.flush()
                print(f"{name}: {rows[-1]}", file=sys.stderr, flush=True)
    note = "" if busy < 0.3 else f"; NOT idle: others used {busy:.1f} cores before"
    text = f"{about['date']}, {about['cpu']}, {args.threads} threads{note}\n\n" + "\n".join(table(rows)) + "\n"
    print(text)
    if args.markdown:
        Path(args.markdown).write_text(text)
    return 0


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add(
        "--data",
        action="append",
        required=True,
        type=data_set,
        metavar="NAME[:L]",
        help="a prepared data set or a known source, and the inputs per window (default 50). Repeatable",
    )
    add("--data-dir", default="data", help="where prepared sets lie (default: data)")
    add("--batch-size", type=int, default=128, help="windows per batch (default 128)")
    add(
        "--batch-tokens",
        action="append",
        type=int,
        default=[],
        metavar="N",
        help="measure batches of N positions as well; repeatable",
    )
    add("--bucket-batches", type=int, default=100, help="data.bucket_batches (default 100)")
    add("--steps", type=int, default=20, help="batches that are timed (default 20); 0 = padding only")
    add("--rounds", type=int, default=3, help="how often each is timed (default 3)")
    add("--threads", type=int, default=2)
    add("--compile", action="store_true", help="also compile the step: minutes")
    add("--packing", action="store_true", help="also pack the same windows into full rows")
    add("--recurrent", action="store_true", help="also time recurrent layers")
    add("--out", default="benchmark_batches.jsonl", help="one JSON line per row is appended")
    add("--markdown", help="also write the table to this file")
    return parser.parse_args()


def data_set(text: str) -> tuple[str, int]:
    name, colon, length = text.rpartition(":")
    return (name, int(length)) if colon and length.isdigit() else (text, 50)


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Columns that no row has a number for are left out."""
    columns = [(title, name) for title, name in COLUMNS if any(row.get(name) is not None for row in rows)]
    lines = ["| " + " | ".join(title for title, _ in columns) + " |", "|---" * len(columns) + "|"]
    return lines + ["| " + " | ".join(cell(name, row.get(name)) for _, name in columns) + " |" for row in rows]


def cell(name: str, value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    if name in SHARES:
        return f"{100 * value:.1f} %"
    return f"{value:,d}" if isinstance(value, int) else f"{value:.2f}"


if __name__ == "__main__":
    sys.exit(main())
