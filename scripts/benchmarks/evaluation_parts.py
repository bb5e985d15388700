#!/usr/bin/env python3
"""Where the time of one `Trainer.test` goes: the model of peers.py, every user ranked against all items.

    scripts/benchmarks/evaluation_parts.py --dataset DATA/ml-100k --length 50 --model GRU4Rec --model SASRec

Milliseconds of the processor, of all threads, so that others may use the machine; medians over the tests that follow
two for warm-up. `Lightning` is what no other part takes: its loop, its hooks, and taking apart what was logged.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from harness import QUIET, Row, busy_cores, child, groups, head, line, measured, median, not_idle, parser_of, publish
from harness import run as run_benchmark
from our_side import make_data, make_model

WARM_UP = 2
PARTS = ("network", "ranks", "batches", "metrics", "logging", "memory", "Lightning")


def main() -> int:
    args = parse_args()
    rows, lines = measured(measurements(args), args, dataset=args.dataset, length=args.length, tests=args.tests)
    return publish([*lines, *not_idle(rows), *table(rows)], args.markdown)


def parse_args() -> Any:
    parser = parser_of(__doc__, "benchmark_evaluation.jsonl", rounds=1)
    add = parser.add_argument
    add("--dataset", required=True, help="a prepared folder")
    add("--length", type=int, default=50, help="events of a window (default 50)")
    add("--model", action="append", help="as peers.py has it; repeatable; default SASRec and GRU4Rec")
    add("--tests", type=int, default=15, help="that are measured (default 15)")
    args = parser.parse_args()
    args.model = args.model or ["SASRec", "GRU4Rec"]
    return args


def measurements(args: Any) -> Iterator[Row]:
    job = {"folder": args.dataset, "max_length": args.length, "batch_size": 128, "tests": args.tests}
    for number in range(args.rounds):
        for model in args.model:
            row = {"round": number, "model": model, "busy_cores_before": busy_cores(1.0)}
            yield {**row, **child(__file__, args.threads, kind="parts", model=model, **job)}


def table(rows: list[Row]) -> list[str]:
    lines = head("model", "users", *(f"{part} ms" for part in PARTS), "all ms")
    for (model, users), here in groups(rows, "model", "users"):
        lines.append(line(model, users, *(f"{median(here, part) or 0.0:.1f}" for part in (*PARTS, "all"))))
    return lines


# -- in a process of its own -------------------------------------------------------------------------------------------


class Clock:
    """Processor seconds of some functions, each without those that it calls."""

    def __init__(self) -> None:
        self.spent = dict.fromkeys(PARTS, 0.0)
        self.inner = [0.0]  # of the functions that the running one has called, innermost last

    def watch(self, owner: Any, name: str, part: str) -> None:
        call: Callable[..., Any] = getattr(owner, name)

        def timed(*arguments: Any, **named: Any) -> Any:
            self.inner.append(0.0)
            started = time.process_time()
            try:
                return call(*arguments, **named)
            finally:
                took = time.process_time() - started
                self.spent[part] += took - self.inner.pop()
                self.inner[-1] += took

        setattr(owner, name, staticmethod(timed) if isinstance(owner.__dict__.get(name), classmethod) else timed)


def measure_parts(job: Row) -> Row:
    import lightning as L
    import torch

    from recsys_lab.data.batches.gather import WindowDataset
    from recsys_lab.evaluation.callback import RankingEvaluation
    from recsys_lab.evaluation.ranked_targets import RankedTargets
    from recsys_lab.models import NextItemModule
    from recsys_lab.ops import allocation
    from recsys_lab.runs.environment import describe_environment

    torch.set_num_threads(job["threads"])
    L.seed_everything(0, verbose=False)
    data, model = make_data(job), make_model(job["model"])
    clock = Clock()
    clock.watch(NextItemModule, "query", "network")
    clock.watch(RankingEvaluation, "rank_batch", "ranks")
    clock.watch(WindowDataset, "__getitems__", "batches")
    clock.watch(RankedTargets, "of", "metrics")
    clock.watch(RankedTargets, "metrics", "metrics")
    clock.watch(NextItemModule, "log", "logging")
    clock.watch(allocation, "give_freed_memory_back", "memory")
    found: list[dict[str, float]] = []
    users = 0
    for _ in range(WARM_UP + job["tests"]):
        evaluation = RankingEvaluation()
        trainer = L.Trainer(callbacks=[evaluation], **QUIET)
        clock.spent, clock.inner = dict.fromkeys(PARTS, 0.0), [0.0]
        started = time.process_time()
        trainer.test(model, datamodule=data, verbose=False)
        whole = time.process_time() - started
        found.append({**clock.spent, "Lightning": whole - sum(clock.spent.values()), "all": whole})
        users = len(evaluation.last_ranks)  # type: ignore[arg-type]
    medians = {part: 1000 * statistics.median(one[part] for one in found[WARM_UP:]) for part in found[0]}
    return {"users": users, **medians, "environment": describe_environment()}


if __name__ == "__main__":
    sys.exit(run_benchmark(main, {"parts": measure_parts}))
