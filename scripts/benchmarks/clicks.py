"""Training steps of click-through: shown items per second, with what each part of a step takes.

    python scripts/benchmarks/clicks.py                     # dot head, history 50, d = 64: the number of the docs
    python scripts/benchmarks/clicks.py --head din --shown 50
    OMP_NUM_THREADS=2 python scripts/benchmarks/clicks.py --threads 2

Made data: every list shows the same number of items, every history is full. A step is gather, encode, head, loss,
backward and Adam, as `fit` does it. On one thread seconds are those of the processor, so that other programs count
less. On several they are those of the clock, and nothing else should run.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import defaultdict
from typing import Any

import numpy as np
import torch

from recsys_lab.contracts import DataSpec, Field
from recsys_lab.data.batches.field_columns import CategoricalColumn
from recsys_lab.data.batches.gather import Events
from recsys_lab.data.batches.shown_dataset import Shown, ShownDataset
from recsys_lab.models import GRU4Rec, NextItemModule, SASRec
from recsys_lab.models.blocks.click_heads import ClickHead, DeepHead, DotHead, TargetAttention
from recsys_lab.models.tasks.click_through import ClickThrough

HEADS: dict[str, type[ClickHead]] = {"dot": DotHead, "deep": DeepHead, "din": TargetAttention}
ENCODERS: dict[str, type[NextItemModule]] = {"sasrec": SASRec, "gru4rec": GRU4Rec}
PLACES = 32


def dataset(lists: int, shown: int, history: int, items: int) -> ShownDataset:
    rng = np.random.default_rng(0)
    users = lists
    events = Events(
        rng.integers(1, items + 1, size=users * history).astype(np.int32),
        np.tile(np.arange(history), users),
        np.arange(users + 1) * history,
    )
    place = np.tile(np.arange(shown) % PLACES, lists)
    column = CategoricalColumn(place + 1, np.append(1, np.arange(PLACES) + 2))
    made = Shown(
        np.arange(lists),
        np.full(lists, history + 1),
        np.arange(lists + 1) * shown,
        rng.integers(1, items + 1, size=lists * shown).astype(np.int32),
        (rng.random(lists * shown) < 0.1).astype(np.float32),
        {"position": column},
    )
    return ShownDataset(events, made, np.arange(lists), history, True)


def spec(items: int, history: int) -> DataSpec:
    fields = (Field("position", "shown", "categorical", PLACES + 2),)
    return DataSpec("made", items, 1, history, True, 1.0, "", "", "none", fields)


def measure(asked: Any) -> dict[str, float]:
    """Seconds of each part of a step, and shown items per second."""
    torch.manual_seed(0)
    data = dataset(asked.batch * 8, asked.shown, asked.history, asked.items)
    arguments = {"embedding_dim": asked.dim, "task": ClickThrough(HEADS[asked.head]())}
    arguments |= {"num_layers": asked.layers, "num_heads": 2} if asked.encoder == "sasrec" else {}
    model: Any = ENCODERS[asked.encoder](**arguments)
    model._build(spec(asked.items, asked.history))
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    parts: dict[str, list[float]] = defaultdict(list)
    clock = time.process_time if asked.threads == 1 else time.perf_counter
    for step in range(asked.steps + 2):
        marks = [clock()]
        rows = np.arange(asked.batch) + asked.batch * (step % 8)
        batch = data[rows]
        marks.append(clock())
        state = model.training_state(batch)
        marks.append(clock())
        loss, _ = model.task.loss(state, batch, model.scorer, None)
        marks.append(clock())
        optimizer.zero_grad()
        loss.backward()
        marks.append(clock())
        optimizer.step()
        marks.append(clock())
        if step >= 2:  # the first steps allocate
            names = ("gather", "encode", "head and loss", "backward", "optimizer")
            for name, before, after in zip(names, marks, marks[1:], strict=False):
                parts[name].append(after - before)
    seconds = {name: statistics.median(values) for name, values in parts.items()}
    return seconds | {"shown items/s": asked.batch * asked.shown / sum(seconds.values())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--head", choices=HEADS, default="dot")
    parser.add_argument("--encoder", choices=ENCODERS, default="sasrec")
    for name, default in (("batch", 128), ("shown", 50), ("history", 50), ("dim", 64), ("items", 10_000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--layers", type=int, default=1)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    found = measure(asked)
    rate = found.pop("shown items/s")
    of = "of processor time" if asked.threads == 1 else f"on {asked.threads} threads"
    print(f"{rate:,.0f} shown items for each second {of}: {asked}")
    for name, seconds in found.items():
        print(f"  {name:14} {1000 * seconds:7.2f} ms  {seconds / sum(found.values()):.0%}")


if __name__ == "__main__":
    main()
