#!/usr/bin/env python3
"""Each part alone against what this machine can do at most: reader, prepare, batches, encoder, loss, ranks.

    scripts/benchmark_parts.py --data ml-1m=ml-1m.parquet:200 --data amazon-beauty=beauty.parquet:50
    scripts/benchmark_parts.py --data ml-100k=ml-100k.parquet:50 --model GRU4Rec

| part | what runs | its limit |
|---|---|---|
| reader | the file through the generic reader into memory, checks included | `pl.read_parquet` of the same columns |
| prepare | `prepare`, from the raw file to the memory-mapped folder | one sort by user and time into a Parquet file |
| batches | an epoch of training batches | copying as many bytes |
| encoder | forward and backward of the network, without the loss | its matrix products at the speed of a large one |
| loss | full cross-entropy, forward and backward: three products | the same |
| ranks | ranks of test targets: one product | the same |

A large product is 2048 x 2048 x 2048 in float32, measured before and after encoder, loss and
ranks. Medians over --rounds; a process
of its own for each data set. The share of a training step that making its batch takes stands below the table.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from _bench_machine import busy_cores, describe_machine, last_json, not_idle, publish, require_idle
from _bench_table import header
from benchmark import MODELS, data_set

SIDE = 2_048
USERS_PER_RANKING = 512


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", action="append", type=data_set, metavar="NAME=FILE.parquet[:L]", help="as in benchmark.py")
    add("--model", choices=MODELS, default="SASRec")
    add("--batch-size", type=int, default=128)
    add("--batches", type=int, default=24, help="training batches that are timed (default 24)")
    add("--rounds", type=int, default=5)
    add("--threads", type=int, default=2)
    add("--out", default="parts.jsonl", help="one JSON line per data set is appended (default parts.jsonl)")
    add("--markdown", help="also write header and table to this file")
    add("--even-if-busy", action="store_true")
    add("--job", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.job:
        print(json.dumps(measure(json.loads(args.job))))
        return 0
    if not args.data:
        parser.error("name at least one data set: --data NAME=FILE.parquet[:L]")
    if not require_idle(args.even_if_busy):
        return 2
    machine, environment, rows = describe_machine(), {}, []
    with open(args.out, "a") as out:
        for name, file, max_length in args.data:
            busy = busy_cores()
            job = {name: vars(args)[name] for name in ("model", "batch_size", "batches", "rounds", "threads")}
            job |= {"file": str(file), "max_length": max_length}
            row = last_json([sys.executable, __file__, "--job", json.dumps(job)], args.threads)
            environment = row.pop("environment")
            rows.append({"data": name, "busy_cores_before": busy, **row})
            out.write(json.dumps({**machine, "commit": environment.get("commit"), **rows[-1]}) + "\n")
            out.flush()
    settings = {"model": args.model, "batch size": args.batch_size, "rounds": args.rounds, "threads": args.threads}
    publish([*header(machine, environment, settings), *not_idle(rows), "", *table(rows)], args.markdown)
    return 0


def table(rows: list[dict[str, Any]]) -> list[str]:
    lines = ["| data | part | ours | limit | share of it |", "|---|---|---|---|---|"]
    below = [""]
    for row in rows:
        for part, found in row["parts"].items():
            ours, limit = found["ours"], found["limit"]
            shown = [f"{value:,.4g} {found['unit']}" for value in (ours, limit)]
            lines.append(f"| {row['data']} | {part} | {shown[0]} | {shown[1]} | {ours / limit:.2f} |")
        below.append(
            f"- {row['data']}: a large product runs at {row['product_gflops']:.0f} GFLOP/s, copies at "
            f"{row['copy_gb_s']:.1f} GB/s; making a batch takes {row['batch_share']:.1%} of a training step"
        )
    return lines + below


def measure(job: dict[str, Any]) -> dict[str, Any]:
    """All parts of one data set, in this process."""
    import logging
    import warnings

    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    import torch

    from recsys_lab.callbacks.environment import describe_environment

    torch.set_num_threads(job["threads"])
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        job = {**job, "folder": f"{folder}/prepared", "max_windows_per_user": None}
        parts = {**measure_data(job, Path(folder)), **measure_model(job)}
    extra = parts.pop("extra")
    return {"parts": parts, **extra, "environment": describe_environment()}


def seconds(run: Callable[[], Any], rounds: int) -> float:
    """Median of the rounds after one that is not counted."""
    taken = []
    for _ in range(rounds + 1):
        started = time.perf_counter()
        run()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken[1:])


def measure_data(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    import polars as pl

    from recsys_lab.data.prepare import PrepareSettings, prepare
    from recsys_lab.data.sources.files import FileSource

    file, rounds, counter = job["file"], job["rounds"], iter(range(10**9))
    columns = ["user_id", "item_id", "timestamp"]
    events = pl.scan_parquet(file).select(pl.len()).collect().item()

    def prepared(output: Path) -> None:
        prepare(FileSource(file), PrepareSettings(), output, folder / "raw")

    reader = seconds(lambda: FileSource(file).tables(folder / "raw").interactions.collect(engine="streaming"), rounds)
    plain = seconds(lambda: pl.read_parquet(file, columns=columns), rounds)
    whole = seconds(lambda: prepared(folder / f"set-{next(counter)}"), rounds)
    query = pl.scan_parquet(file).select(columns).sort("user_id", "timestamp")
    sort = seconds(lambda: query.sink_parquet(folder / "sorted.parquet", engine="streaming"), rounds)
    prepared(Path(job["folder"]))
    unit = "M events/s"
    return {
        "reader": {"ours": events / reader / 1e6, "limit": events / plain / 1e6, "unit": unit},
        "prepare": {"ours": events / whole / 1e6, "limit": events / sort / 1e6, "unit": unit},
    }


def measure_model(job: dict[str, Any]) -> dict[str, Any]:
    import torch
    from _bench_measure import make_data, make_model
    from torch.utils.flop_counter import FlopCounterMode

    from recsys_lab.metrics.linear_ranks import linear_target_ranks

    data, rounds = make_data(job), job["rounds"]
    model = make_model(job["model"])
    model._build(data.spec)
    model.train()

    def assembled() -> list[Any]:
        taken = []
        for batch in data.train_dataloader():
            taken.append(batch)
            if len(taken) == job["batches"]:
                break
        return taken

    batches = assembled()
    batching = seconds(assembled, rounds)
    tensors = [tensor for batch in batches for tensor in vars(batch).values() if isinstance(tensor, torch.Tensor)]
    size = sum(tensor.nbytes for tensor in tensors)
    targets = [batch.target_ids.flatten().index_select(0, batch.target_positions) for batch in batches]

    source, goal = torch.ones(1 << 26), torch.empty(1 << 26)  # 256 MB each, far beyond a cache
    copying = 2 * source.nbytes / seconds(lambda: goal.copy_(source), rounds)  # read and written
    left, right = torch.randn(SIDE, SIDE), torch.randn(SIDE, SIDE)

    def product() -> float:
        return 2 * SIDE**3 / seconds(lambda: left @ right, rounds)

    speeds = [product()]
    gradients = []
    with FlopCounterMode(display=False, custom_mapping=attention_operations()) as counted:
        for batch in batches:
            hidden = model.hidden_at(batch, batch.target_positions)
            gradients.append(torch.ones_like(hidden))
            hidden.backward(gradients[-1])
    operations = counted.get_total_flops()

    def encoder() -> None:
        for batch, gradient in zip(batches, gradients, strict=True):
            model.hidden_at(batch, batch.target_positions).backward(gradient)

    encoding = seconds(encoder, rounds)
    speeds.append(product())
    with torch.no_grad():
        states = [model.hidden_at(batch, batch.target_positions) for batch in batches]
    states = [hidden.requires_grad_() for hidden in states]

    def loss() -> None:
        for hidden, target_ids in zip(states, targets, strict=True):
            model.loss(hidden, target_ids, model.scorer, None).backward()

    losing = seconds(loss, rounds)
    width, num_items, num_targets = states[0].shape[1], data.spec.num_items, sum(map(len, targets))
    speeds.append(product())

    model.eval()
    tests = list(data.test_dataloader())[: max(1, 8_192 // USERS_PER_RANKING)]
    with torch.inference_mode():
        queries = [model.query(batch) for batch in tests]
    candidates, (items, bias) = data.item_counts > 0, model.linear_scores()

    def ranks() -> None:
        for query, batch in zip(queries, tests, strict=True):
            seen = (batch.seen_ids, batch.seen_offsets)
            linear_target_ranks(query, items, bias, batch.target_ids, candidates, *seen)

    ranking = seconds(ranks, rounds)
    speeds.append(product())
    best = statistics.median(speeds) / 1e9
    scores = 2 * width * num_items
    unit = "GFLOP/s"
    return {
        "batches": {"ours": size / batching / 1e9, "limit": copying / 2 / 1e9, "unit": "GB/s"},
        "encoder": {"ours": operations / encoding / 1e9, "limit": best, "unit": unit},
        "loss": {"ours": 3 * scores * num_targets / losing / 1e9, "limit": best, "unit": unit},
        "ranks": {"ours": scores * sum(map(len, queries)) / ranking / 1e9, "limit": best, "unit": unit},
        "extra": {
            "product_gflops": best,
            "copy_gb_s": copying / 1e9,
            "batch_share": batching / (batching + encoding + losing),
            "targets": num_targets,
            "items": num_items,
        },
    }


def attention_operations() -> dict[Any, Callable[..., int]]:
    """Of torch's causal attention on a CPU, which its counter does not know: half of each (L, L) product counts."""
    import torch

    def forward(query: tuple[int, ...], *_: Any, **__: Any) -> int:  # (B, H, L, D/H): two products
        return 2 * math.prod(query) * query[-2]

    def backward(gradient: tuple[int, ...], *_: Any, **__: Any) -> int:  # four
        return 4 * math.prod(gradient) * gradient[-2]

    kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    return {kernel: forward, torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: backward}


if __name__ == "__main__":
    sys.exit(main())
