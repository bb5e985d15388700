"""Measurements of the losses in a process of its own: `python losses_jobs.py '<job as JSON>'` prints one JSON line.

Jobs (`kind`):

    speed   the losses on the same made inputs, in turn: seconds of forward + backward, and how far exact ones differ
    memory  one loss once: peak memory beyond inputs, weights and their gradients
    step    training steps of a SASRec with a sampled loss under one optimiser: seconds and peak memory
"""

from __future__ import annotations

import contextlib
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

MB = 2**20
FULL_LOGITS_UP_TO = 2 << 30  # bytes; the plain way keeps about three such matrices
NEGATIVES = {"shared": 256, "own": 16}
SAMPLED = ("SampledSoftmax", "BCE")


def inputs(job: dict[str, Any]) -> Any:
    """hidden (N, D), target_ids (N,), a scorer with its table (V, D); logits of about 1, as in a trained model."""
    import torch
    from torch import nn

    from recsys_lab.models.blocks.item_table import ItemTable
    from recsys_lab.models.blocks.scoring import TiedScorer

    torch.manual_seed(0)
    hidden = torch.randn(job["positions"], job["width"]).requires_grad_()
    target_ids = torch.randint(1, job["items"] + 1, (job["positions"],))
    table = ItemTable(job["items"] + 1, job["width"])
    nn.init.normal_(table.weight, std=2 * job["width"] ** -0.5)
    return hidden, target_ids, TiedScorer(table)


def losses(job: dict[str, Any], hidden: Any, target_ids: Any, scorer: Any) -> dict[str, Callable[[], Any]]:
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
    if 4 * job["positions"] * job["items"] <= FULL_LOGITS_UP_TO:
        ways["full"] = lambda: CrossEntropy(implementation="full")(hidden, target_ids, scorer)
    ways[f"SampledSoftmax, {NEGATIVES['shared']} shared"] = sampled(SampledSoftmax(), own=False)
    ways[f"BCE, {NEGATIVES['own']} own"] = sampled(BCE(), own=True)
    ways[f"BCE, {NEGATIVES['own']} own, gathered"] = sampled(BCE(), True, Gathered(scorer.items))
    return {name: way for name, way in ways.items() if not job["ways"] or name in job["ways"]}


def measure_speed(job: dict[str, Any]) -> dict[str, Any]:
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
            started = time.perf_counter()
            loss = way()
            loss.backward()
            if turn:  # the first is warm-up
                seconds[name].append(time.perf_counter() - started)
            if turn == job["rounds"]:
                found = [loss.detach(), hidden.grad, weight.grad]
                same = references.setdefault(next((n for n in SAMPLED if name.startswith(n)), "exact"), found)
                errors[name] = max(float((a - b).norm() / b.norm()) for a, b in zip(found, same, strict=True))
    rows = min(job["positions"], max(FULL_LOGITS_UP_TO // (4 * job["items"]), 1))
    product, states = torch.empty(rows, job["items"] + 1), hidden.detach()[:rows]
    alone = []
    for _ in range(3):
        started = time.perf_counter()
        torch.mm(states, weight.detach().T, out=product)
        alone.append(time.perf_counter() - started)
    return {
        "seconds": {name: statistics.median(values) for name, values in seconds.items()},
        "errors": errors,
        "product_gflops": 2 * product.numel() * job["width"] / min(alone) / 1e9,
    }


def measure_memory(job: dict[str, Any]) -> dict[str, Any]:
    small = {**job, "positions": 8, "items": 500}
    losses(small, *inputs(small))[job["way"]]().backward()  # so that threads and libraries are there
    hidden, target_ids, scorer = inputs(job)
    way = losses(job, hidden, target_ids, scorer)[job["way"]]
    before = forget_peak()
    started = time.perf_counter()
    way().backward()
    seconds = time.perf_counter() - started
    gradients = sum(t.grad.numel() * t.grad.element_size() for t in (hidden, scorer.items.weight))
    return {"extra_mb": (peak() - before - gradients) / MB, "gradients_mb": gradients / MB, "seconds": seconds}


def measure_step(job: dict[str, Any]) -> dict[str, Any]:
    """Steps as Lightning's loop takes them, without its loop: forward, backward, optimiser."""
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
    length, rows = job["length"], job["positions"] // job["length"]
    model._build(DataSpec("made", job["items"], rows, length, False, 1.0, "0", "0", "none"))
    sampler.prepare(torch.ones(job["items"] + 1))
    optimizer = make_optimizer(model, settings, lambda: 1.0)
    full = torch.full((rows,), length)
    losses, seconds = [], []
    for turn in range(job["rounds"] + 2):
        ids = torch.randint(1, job["items"] + 1, (rows, length + 1))
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


def forget_peak() -> int:
    """Resident bytes now; the peak counts from here where the kernel lets a process reset its own."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def peak() -> int:
    return _status("VmHWM")


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


MEASUREMENTS = {"speed": measure_speed, "memory": measure_memory, "step": measure_step}


def main() -> None:
    job = {"ways": None, **json.loads(sys.argv[1])}
    import torch

    from recsys_lab.runs.environment import describe_environment

    torch.set_num_threads(job["threads"])
    found = MEASUREMENTS[job["kind"]](job)
    print(json.dumps({**job, **found, "environment": describe_environment()}))


if __name__ == "__main__":
    main()
