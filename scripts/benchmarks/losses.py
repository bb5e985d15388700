#!/usr/bin/env python3
"""What each loss costs, against the matrix product that it can't do without; and what each optimiser of a large table
costs.

    scripts/benchmarks/losses.py                                     the standard sizes: some minutes
    scripts/benchmarks/losses.py --only memory --memory 25600:1000000 --way chunked       10 TFLOP: minutes more
    scripts/benchmarks/losses.py --only step --step 1000000 --step 5000000

Three tables. Speed: forward and backward of each loss on the same made states and table, in turn, medians; GFLOP/s of
the three products of full cross-entropy (6 x positions x items x width operations), beside one plain float32 product of
the same sizes, and the largest relative difference of loss and gradients from `chunked`, the default. `torch's own` is
torch.nn.functional.linear_cross_entropy in chunks. Memory: what a loss takes at its peak beyond inputs, weights and
their gradients. Step: training steps of SASRec with sampled softmax
under dense and row-sparse optimisers. Every measurement is a process of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from harness import Row, busy_cores, child, head, line, measured, not_idle, parser_of, publish, run

MB = 2**20
FULL_LOGITS_UP_TO = 2 << 30  # bytes; the plain way keeps about three such matrices
NEGATIVES = {"shared": 256, "own": 16}
SAMPLED = ("SampledSoftmax", "BCE")
SPEED = [(6_400, 1_682), (6_400, 3_416), (6_400, 12_101), (3_200, 50_000), (256, 1_000_000)]
MEMORY = [(6_400, 12_101), (1_024, 1_000_000)]
KINDS = ("speed", "memory", "step")
WAYS = (
    *("chunked", "chunked, in blocks", "full", "torch's own"),
    *("SampledSoftmax, 256 shared", "BCE, 16 own", "BCE, 16 own, gathered"),
)
OPTIMIZERS = ("adam", "sparse_adam", "rowwise_adagrad")
LENGTH = 50
"""Of a window of step."""


def main() -> int:
    args = parse_args()
    rows, lines = measured(measurements(args), args, width=args.width)
    return publish([*lines, *tables(rows), *not_idle(rows)], args.markdown)


def parse_args() -> argparse.Namespace:
    parser = parser_of(__doc__, "benchmark_losses.jsonl")
    add = parser.add_argument
    add("--size", action="append", type=pair, metavar="POSITIONS:ITEMS", help="of speed; repeatable")
    add("--memory", action="append", type=pair, metavar="POSITIONS:ITEMS", help="of memory; repeatable")
    add("--step", action="append", type=int, metavar="ITEMS", help="of step; repeatable (default 1000000)")
    add("--step-positions", type=int, default=6_400, help="targets of a step, 50 a row (default 6400)")
    add("--way", action="append", choices=WAYS, help="only this loss; repeatable")
    add("--optimizer", action="append", choices=OPTIMIZERS, help="of step, only this; repeatable")
    add("--only", choices=KINDS, nargs="+", default=list(KINDS), help="measure only these")
    add("--width", type=int, default=64, help="D (default 64)")
    add("--device", default="cpu", help="for speed and memory: cpu or cuda (default cpu)")
    args = parser.parse_args()
    args.size, args.memory, args.step = args.size or SPEED, args.memory or MEMORY, args.step or [1_000_000]
    return args


def pair(text: str) -> tuple[int, int]:
    positions, _, items = text.partition(":")
    if not positions.isdigit() or not items.isdigit() or not int(positions) or int(items) < 2:
        raise argparse.ArgumentTypeError(f"{text!r} is not POSITIONS:ITEMS")
    return int(positions), int(items)


def measurements(args: argparse.Namespace) -> Iterator[Row]:
    shared = {"width": args.width, "threads": args.threads, "rounds": args.rounds, "device": args.device}
    for job in jobs(args):
        busy = busy_cores()
        yield {"busy_cores_before": busy, **job, **child(__file__, **shared, **job)}


def jobs(args: argparse.Namespace) -> Iterator[Row]:
    if "speed" in args.only:
        for n, v in args.size:
            yield {"kind": "speed", "positions": n, "items": v, "ways": args.way}
    if "memory" in args.only:
        for n, v in args.memory:
            for way in args.way or WAYS:
                if way != "full" or fits(n, v):
                    yield {"kind": "memory", "positions": n, "items": v, "way": way, "ways": [way]}
    if "step" in args.only:
        for v in args.step:
            for optimizer in args.optimizer or OPTIMIZERS:
                yield {"kind": "step", "positions": args.step_positions, "items": v, "optimizer": optimizer}


def fits(positions: int, items: int) -> bool:
    """Whether all logits at once do."""
    return 4 * positions * items <= FULL_LOGITS_UP_TO


def tables(rows: list[Row]) -> list[str]:
    of = {kind: [row for row in rows if row["kind"] == kind] for kind in KINDS}
    lines: list[str] = []
    if of["speed"]:
        lines += head("positions", "items", "loss", "ms", "GFLOP/s", "of the plain product's", "difference")
    for row in of["speed"]:
        size = (f"{row['positions']:,}", f"{row['items']:,}")
        for way, seconds in row["seconds"].items():
            gflops = 6 * row["positions"] * row["items"] * row["width"] / seconds / 1e9
            speed = (f"{gflops:,.1f}", f"{gflops / row['product_gflops']:.2f}")
            speed = ("", "") if way.startswith(SAMPLED) else speed
            lines.append(line(*size, way, f"{1000 * seconds:,.1f}", *speed, f"{row['errors'][way]:.0e}"))
        lines.append(line(*size, "the plain product", "", f"{row['product_gflops']:,.1f}", "1.00", ""))
    if of["memory"]:
        lines += head("positions", "items", "loss", "extra MB at the peak", "gradients MB", "s")
    for row in of["memory"]:
        numbers = (f"{row['extra_mb']:,.0f}", f"{row['gradients_mb']:,.0f}", f"{row['seconds']:,.1f}")
        lines.append(line(f"{row['positions']:,}", f"{row['items']:,}", row["way"], *numbers))
    if of["step"]:
        lines += head("SASRec, sampled softmax: positions", "items", "optimizer", "ms a step", "peak MB")
    for row in of["step"]:
        numbers = (f"{1000 * row['seconds']:,.1f}", f"{row['peak_mb']:,.0f}")
        lines.append(line(f"{row['positions']:,}", f"{row['items']:,}", row["optimizer"], *numbers))
    return lines


# -- in a process of its own -------------------------------------------------------------------------------------------


def inputs(job: Row) -> Any:
    """hidden (N, D), target_ids (N,), a scorer with its table (V, D); logits of about 1, as in a trained model."""
    import torch
    from torch import nn

    from recsys_lab.models.blocks.item_table import ItemTable
    from recsys_lab.models.blocks.scoring import TiedScorer

    torch.manual_seed(0)
    device = job["device"]
    hidden = torch.randn(job["positions"], job["width"], device=device).requires_grad_()
    target_ids = torch.randint(1, job["items"] + 1, (job["positions"],), device=device)
    table = ItemTable(job["items"] + 1, job["width"]).to(device)
    nn.init.normal_(table.weight, std=2 * job["width"] ** -0.5)
    return hidden, target_ids, TiedScorer(table)


def losses(job: Row, hidden: Any, target_ids: Any, scorer: Any) -> dict[str, Callable[[], Any]]:
    """Name -> a call that gives the scalar."""
    import torch
    import torch.nn.functional as F

    from recsys_lab.losses import BCE, CrossEntropy, SampledSoftmax
    from recsys_lab.losses.negatives import UniformNegatives
    from recsys_lab.models.blocks.scoring import TiedScorer
    from recsys_lab.ops.linear_cross_entropy import linear_cross_entropy

    class Gathered(TiedScorer):
        """Own negatives by a gather of all their rows, as a batched product wants them."""

        def scores(self, state: Any, items: Any) -> Any:
            return torch.bmm(F.embedding(items, self.items.weight), state.unsqueeze(2)).squeeze(2)

    def sampled(loss: Any, own: bool, scorer: Any = scorer) -> Callable[[], Any]:
        sampler = UniformNegatives(NEGATIVES["own" if own else "shared"], per_position=own)
        sampler.prepare(torch.ones(job["items"] + 1))
        negatives = sampler.sample(target_ids, torch.Generator().manual_seed(0))
        return lambda: loss(hidden, target_ids, scorer, negatives)

    weight = scorer.items.weight
    ways: dict[str, Callable[[], Any]] = {"chunked": lambda: CrossEntropy()(hidden, target_ids, scorer)}
    blocked = min(job["positions"], 512)
    ways["chunked, in blocks"] = lambda: linear_cross_entropy(
        hidden, weight, target_ids, chunk_size=blocked, block_size=min(5_000, job["items"] // 2)
    )
    if fits(job["positions"], job["items"]):
        ways["full"] = lambda: CrossEntropy(implementation="full")(hidden, target_ids, scorer)
    options = torch.nn.LinearCrossEntropyOptions()
    ways["torch's own"] = lambda: F.linear_cross_entropy(hidden, weight[1:], target_ids - 1, options=options)
    ways[f"SampledSoftmax, {NEGATIVES['shared']} shared"] = sampled(SampledSoftmax(), own=False)
    ways[f"BCE, {NEGATIVES['own']} own"] = sampled(BCE(), own=True)
    ways[f"BCE, {NEGATIVES['own']} own, gathered"] = sampled(BCE(), True, Gathered(scorer.items))
    return {name: way for name, way in ways.items() if not job["ways"] or name in job["ways"]}


def measure_speed(job: Row) -> Row:
    """All losses on the same made inputs, in turn: seconds of forward + backward, and how far exact ones differ."""
    import torch

    hidden, target_ids, scorer = inputs(job)
    ways = losses(job, hidden, target_ids, scorer)
    weight = scorer.items.weight
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    references: dict[str, list[Any]] = {}
    errors: dict[str, float] = {}
    for turn in range(job["rounds"] + 1):
        for name, way in ways.items():
            hidden.grad = weight.grad = None
            wait_for(job["device"])
            started = time.perf_counter()
            loss = way()
            loss.backward()
            wait_for(job["device"])
            if turn:  # the first is warm-up
                seconds[name].append(time.perf_counter() - started)
            if turn == job["rounds"]:
                found = [loss.detach(), hidden.grad, weight.grad]
                same = references.setdefault(next((n for n in SAMPLED if name.startswith(n)), "exact"), found)
                errors[name] = max(float((a - b).norm() / b.norm()) for a, b in zip(found, same, strict=True))
    rows = min(job["positions"], max(FULL_LOGITS_UP_TO // (4 * job["items"]), 1))
    product, states = torch.empty(rows, job["items"] + 1, device=job["device"]), hidden.detach()[:rows]
    alone = []
    for _ in range(3):
        wait_for(job["device"])
        started = time.perf_counter()
        torch.mm(states, weight.detach().T, out=product)
        wait_for(job["device"])
        alone.append(time.perf_counter() - started)
    return {
        "seconds": {name: statistics.median(values) for name, values in seconds.items()},
        "errors": errors,
        "product_gflops": 2 * product.numel() * job["width"] / min(alone) / 1e9,
    }


def measure_memory(job: Row) -> Row:
    """One loss once: peak memory beyond inputs, weights and their gradients."""
    small = {**job, "positions": 8, "items": 500}
    losses(small, *inputs(small))[job["way"]]().backward()  # so that threads and libraries are there
    hidden, target_ids, scorer = inputs(job)
    way = losses(job, hidden, target_ids, scorer)[job["way"]]
    before = forget_peak(job["device"])
    started = time.perf_counter()
    way().backward()
    wait_for(job["device"])
    seconds = time.perf_counter() - started
    gradients = sum(t.grad.numel() * t.grad.element_size() for t in (hidden, scorer.items.weight))
    return {
        "extra_mb": (peak(job["device"]) - before - gradients) / MB,
        "gradients_mb": gradients / MB,
        "seconds": seconds,
    }


def measure_step(job: Row) -> Row:
    """Training steps as Lightning's loop takes them, without its loop: forward, backward, optimiser."""
    import torch

    from recsys_lab.contracts import Batch, DataSpec
    from recsys_lab.losses import SampledSoftmax
    from recsys_lab.losses.negatives import UniformNegatives
    from recsys_lab.models import Optimization, SASRec
    from recsys_lab.models.optimization import make_optimizer

    torch.manual_seed(0)
    base = forget_peak()
    settings = Optimization(optimizer=job["optimizer"])
    sampler = UniformNegatives(NEGATIVES["shared"], per_position=False)
    model = SASRec(embedding_dim=job["width"], loss=SampledSoftmax(), negatives=sampler, optimization=settings)
    rows = job["positions"] // LENGTH
    model._build(DataSpec("made", job["items"], rows, LENGTH, False, 1.0, "0", "0", "none"))
    sampler.prepare(torch.ones(job["items"] + 1))
    optimizer = make_optimizer(model, settings, lambda: 1.0)
    full = torch.full((rows,), LENGTH)
    losses, seconds = [], []
    for turn in range(job["rounds"] + 2):
        ids = torch.randint(1, job["items"] + 1, (rows, LENGTH + 1))
        inputs, targets = ids[:, :-1], ids[:, 1:].flatten()
        batch = Batch(inputs, ids[:, 1:], inputs > 0, inputs, full, full)
        started = time.perf_counter()
        history, negatives = model.encode(batch), sampler.sample(targets, None)
        loss = model.task.objective(history, torch.arange(len(targets)), targets, model.scorer, negatives)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if turn > 1:  # the first makes the optimiser's state
            seconds.append(time.perf_counter() - started)
        losses.append(loss.item())
    return {"seconds": statistics.median(seconds), "peak_mb": (peak() - base) / MB, "losses": losses}


def wait_for(device: str) -> None:
    """A GPU works on after a call returned."""
    if device != "cpu":
        import torch

        torch.cuda.synchronize()


def forget_peak(device: str = "cpu") -> int:
    """Bytes in use now, of a GPU those of torch's tensors; the peak counts from here where the kernel lets a process
    reset its own."""
    if device != "cpu":
        import torch

        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def peak(device: str = "cpu") -> int:
    if device != "cpu":
        import torch

        return torch.cuda.max_memory_allocated()
    return _status("VmHWM")


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def measure(job: Row) -> Row:
    import torch

    from recsys_lab.runs.environment import describe_environment

    torch.set_num_threads(job["threads"])
    found = {"speed": measure_speed, "memory": measure_memory, "step": measure_step}[job["kind"]](job)
    return {**found, "width": job["width"], "environment": describe_environment()}


if __name__ == "__main__":
    sys.exit(run(main, dict.fromkeys(KINDS, measure)))
