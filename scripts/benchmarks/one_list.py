#!/usr/bin/env python3
"""How long one user's list takes from a loaded Predictor, on one thread: p50 and p99.

    scripts/benchmarks/one_list.py --markdown table.md --threads 1

`new`: a history of 50 items that was never seen, as raw ids, to a frame of ten. `next event`: the state of a user goes
on by an event, and is asked for ten. Models of 100,000 items with vectors of 64 numbers, with the weights that they
begin with: what they have learned does not change the time. `cpu` is the processor time of the thread, which others on
the machine change less than the time on the clock.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from harness import Row, child, groups, head, line, measured, median, not_idle, parser_of, publish, run

MODELS = ("SASRec", "GRU4Rec")
QUESTIONS = ("new", "next event")
LENGTH, TOP, WARM, DIM = 50, 10, 20, 64


def predictor(model: str, num_items: int, length: int = LENGTH) -> Any:
    """An untrained model, as if every item had trained once."""
    from pathlib import Path

    import polars as pl
    import torch

    import recsys_lab.models
    from recsys_lab.contracts import DataSpec
    from recsys_lab.data.fitting.fitted_fields import FittedFields
    from recsys_lab.data.fitting.vocabulary import Vocabulary
    from recsys_lab.serve import Predictor
    from recsys_lab.serve.loaded import LoadedModel

    spec = DataSpec("made", num_items, 1000, length, True, 100.0, "0" * 16, "1" * 16, "none")
    torch.manual_seed(0)
    made = getattr(recsys_lab.models, model)(embedding_dim=DIM)
    made._build(spec)
    counts = torch.ones(spec.num_rows, dtype=torch.int64)
    counts[0] = 0
    vocabulary = Vocabulary(pl.Series([f"item {n}" for n in range(num_items)]), FittedFields(), counts)
    return Predictor(LoadedModel(made.eval(), spec, vocabulary, counts, Path(), None, {}))


def measure(job: Row) -> Row:
    import numpy as np
    import torch

    from recsys_lab.runs.environment import describe_environment

    torch.set_num_threads(job["threads"])
    one, draw = predictor(job["model"], job["items"]), np.random.default_rng(0)
    asked = [[f"item {n}" for n in draw.integers(0, job["items"], LENGTH)] for _ in range(WARM + job["questions"])]
    state = one.start("u")

    def new(history: list[str]) -> None:
        one.recommend([history], TOP)

    def next_event(history: list[str]) -> None:
        nonlocal state
        state = one.step(state, history[0])
        one.top(state, TOP)

    ask: Callable[[list[str]], None] = new if job["question"] == "new" else next_event
    seconds, cpu = [], []
    for history in asked:
        start, start_cpu = time.perf_counter(), time.thread_time()
        ask(history)
        seconds.append(time.perf_counter() - start)
        cpu.append(time.thread_time() - start_cpu)
    found = {
        f"{name}_{part}_ms": float(np.percentile(times[WARM:], share)) * 1e3
        for name, times in (("wall", seconds), ("cpu", cpu))
        for part, share in (("p50", 50), ("p99", 99))
    }
    return {**found, "environment": describe_environment()}


def measurements(args: argparse.Namespace) -> Iterator[Row]:
    from harness import busy_cores

    for number in range(args.rounds):
        for model in MODELS:
            for question in QUESTIONS:
                busy = busy_cores()
                job = {"model": model, "question": question, "items": args.items, "questions": args.questions}
                yield {**job, "round": number, "busy_cores_before": busy} | child(
                    __file__, args.threads, kind="measure", **job
                )


def main() -> int:
    parser = parser_of(__doc__, "predictor.jsonl")
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--questions", type=int, default=500, help="of each model and kind, in each round")
    args = parser.parse_args()
    rows, lines = measured(measurements(args), args, items=args.items, questions=args.questions)
    lines += not_idle(rows)
    lines += head("model", "question", "p50 ms", "p99 ms", "cpu p50 ms", "cpu p99 ms")
    for (model, question), own in groups(rows, "model", "question"):
        names = ("wall_p50_ms", "wall_p99_ms", "cpu_p50_ms", "cpu_p99_ms")
        lines.append(line(model, question, *(f"{median(own, name):.2f}" for name in names)))
    return publish(lines, args.markdown)


if __name__ == "__main__":
    sys.exit(run(main, {"measure": measure}))
