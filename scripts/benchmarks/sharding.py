#!/usr/bin/env python3
"""What dividing the item table among processes saves in memory, and what it costs in time.

    scripts/benchmarks/sharding.py --markdown table.md --threads 1

A made log in which each item has an event; SASRec is fitted for some steps by `Trainer(strategy="ddp")`: with the whole
table on each process, and divided. `table` are the bytes of the vectors and of what the optimiser keeps of them on the
process that holds most, as they are after the steps; `peak` is its peak memory, all of it. Seconds are for a step:
processor seconds of one process, and on the clock. The last table is computed: the bytes of a table of any size.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness import QUIET, Row, child, groups, head, line, measured, median, not_idle, parser_of, peak_mb, publish, run

OPTIMIZERS = {"adam": "CrossEntropy", "rowwise_adagrad": "SampledSoftmax"}
WAYS = ((1, False), (2, False), (2, True), (3, True))
LENGTH, WARM = 20, 2
NUMBERS = {"adam": lambda dim: 4 * dim, "rowwise_adagrad": lambda dim: dim + 1}
"""Of a row, float32: vector, gradient, two moments; or vector and one sum (only a batch's rows have a gradient)."""


def make(folder: Path, num_items: int) -> None:
    """Each item once in an order by chance, cut into histories, and two events at the end for validation and test."""
    import numpy as np
    import polars as pl

    from recsys_lab.data.prepare.pipeline import PrepareSettings, prepare
    from recsys_lab.data.reading.source import RawTables, Source

    draw = np.random.default_rng(0)
    items = draw.permutation(num_items)
    users = np.arange(num_items) // LENGTH
    ends = np.unique(users)
    user = np.concatenate([users, ends, ends])
    item = np.concatenate([items, draw.integers(0, num_items, 2 * len(ends))])
    events = pl.DataFrame({"user_id": user, "item_id": item, "timestamp": np.arange(len(user)) + 1_000_000_000})

    class Made(Source):
        name, licence, homepage, citation, checked_by, urls, has_timestamps = "made", "", "", "", "", (), True

        def tables(self, raw_dir: Path) -> RawTables:
            return RawTables(events.with_row_index("order").lazy())

        def fingerprint(self, raw_dir: Path) -> str:
            return str(num_items)

    prepare(Made(), PrepareSettings(), folder, folder.parent / "raw")


def fit(job: Row) -> Row:
    """Every process of the Trainer comes here; all give the same."""
    from dataclasses import replace

    import lightning as L
    import torch

    from recsys_lab import losses
    from recsys_lab.data.datamodule import SequenceDataModule
    from recsys_lab.models import Optimization, SASRec
    from recsys_lab.ops.processes import of_every_process
    from recsys_lab.runs.environment import describe_environment
    from recsys_lab.runs.fit.formulas import model_size

    torch.set_num_threads(job["threads"])
    marks: list[tuple[float, ...]] = []  # seconds, processor seconds, bytes written; positions and targets of the step

    class Clock(L.Callback):
        def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, *_: Any) -> None:
            sizes = batch.valid_mask.numel(), int((batch.target_ids != 0).sum())
            marks.append((time.perf_counter(), time.process_time(), written(), *sizes))

    optimizer: Any = job["optimizer"]
    model = SASRec(
        embedding_dim=job["dim"],
        loss=getattr(losses, OPTIMIZERS[optimizer])(),
        optimization=Optimization(optimizer),
        shard_items=job["divided"],
    )
    length = job.get("length", LENGTH)
    data = SequenceDataModule(job["folder"], max_length=length, batch_size=job["batch"] // job["processes"], seed=0)
    strategy = "ddp" if job["processes"] > 1 else "auto"
    settings = {**QUIET, "devices": job["processes"], "strategy": strategy, "limit_val_batches": 0}
    trainer = L.Trainer(**settings, max_steps=WARM + job["steps"], callbacks=[Clock()])
    before = peak_mb()
    trainer.fit(model, data)
    weight = model.embedding.items.weight
    kept = [weight, *(value for value in trainer.optimizers[0].state[weight].values() if value.ndim)]
    wall, cpu, out, *_ = (after - before for after, before in zip(marks[-1], marks[WARM - 1], strict=True))
    positions, targets = (sum(mark[place] for mark in marks[WARM:]) / job["steps"] for place in (3, 4))
    size = model_size(model, trainer.optimizers[0])
    size = replace(size, processes=job["processes"] if job["divided"] else 1)
    own = {
        "table_mb": sum(value.numel() * value.element_size() for value in kept) / 2**20,
        "peak_mb": peak_mb() - before,
        "wall_s": wall / job["steps"],
        "cpu_s": cpu / job["steps"],
        "sent_mb": out / job["steps"] / 1e6,
        "computed_mb": size.sent(round(positions), job["processes"]) / 1e6,
    }
    of_all = of_every_process(own | {"targets": targets})
    if trainer.global_rank:
        sys.exit(0)  # one process prints
    found = {name: max(one[name] for one in of_all) for name in own}
    parameters = sum(one.numel() for one in model.parameters()) - weight.numel()
    shape = {"targets": sum(one["targets"] for one in of_all), "encoder": parameters, "positions": positions}
    return {**found, **shape, "items": model.spec.num_items, "environment": describe_environment()}


def written() -> int:
    """Bytes that this process wrote so far, nearly all of them to other processes; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/io").read_text().split("wchar: ")[1].split()[0])
    except OSError:
        return 0


def measurements(args: argparse.Namespace, folder: str) -> Iterator[Row]:
    from harness import busy_cores

    for number in range(args.rounds):
        for optimizer in OPTIMIZERS:
            for processes, divided in WAYS:
                busy = busy_cores()
                job = {"optimizer": optimizer, "processes": processes, "divided": divided}
                sizes = {"dim": args.dim, "batch": args.batch, "steps": args.steps, "folder": folder}
                yield {**job, "round": number, "busy_cores_before": busy} | child(
                    __file__, args.threads, kind="fit", **job, **sizes
                )


def main() -> int:
    parser = parser_of(__doc__, "sharding.jsonl")
    parser.add_argument("--items", type=int, default=500_000)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--batch", type=int, default=12, help="windows of a step, of all processes together")
    parser.add_argument("--steps", type=int, default=5, help="measured, after two others")
    parser.add_argument("--computed-items", type=int, default=50_000_000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder) / "made", args.items)
        settings = {name: getattr(args, name) for name in ("items", "dim", "batch", "steps")}
        rows, lines = measured(measurements(args, str(Path(folder) / "made")), args, **settings)
    lines += not_idle(rows)
    lines += head("optimiser", "processes", "table", "table MB", "share", "peak MB", "cpu s", "wall s")
    for (optimizer, processes, divided), own in groups(rows, "optimizer", "processes", "divided"):
        alone = [row for row in rows if row["optimizer"] == optimizer and row["processes"] == 1]
        share = (median(own, "table_mb") or 0) / (median(alone, "table_mb") or 1)
        numbers = (f"{median(own, name):.3g}" for name in ("peak_mb", "cpu_s", "wall_s"))
        table = f"{median(own, 'table_mb'):.1f}"
        lines.append(line(optimizer, processes, "divided" if divided else "whole", table, f"{share:.3f}", *numbers))
    lines += head("computed", "rows", *(f"{number} processes, GB" for number in (1, 2, 4, 8)))
    for optimizer, numbers_of in NUMBERS.items():
        total = args.computed_items * numbers_of(args.dim) * 4 / 1e9
        lines.append(line(optimizer, args.computed_items, *(f"{total / number:.1f}" for number in (1, 2, 4, 8))))
    return publish(lines, args.markdown)


if __name__ == "__main__":
    sys.exit(run(main, {"fit": fit}))
