#!/usr/bin/env python3
"""How long the explanation of one list takes by each method: a history of 200 events, SASRec, two threads.

    scripts/benchmarks/explanation.py

A model of 10,000 items with vectors of 64 numbers and the weights that it begins with. One explanation of each method
is made before the clock runs; then the median of three, on the clock and of the processor.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from one_list import predictor

from recsys_lab.diagnose.explain.attribution import METHODS
from recsys_lab.serve.explaining import explain


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="SASRec")
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--length", type=int, default=200)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    one = predictor(args.model, args.items, args.length)
    history = [f"item {number % args.items}" for number in range(args.length)]
    print(f"{args.model}, {args.length} events, {args.items:,} items, {args.threads} threads")
    print("| method | seconds | processor seconds |\n|---|---:|---:|")
    for method in METHODS:
        explain(one, history, methods=[method])
        took = []
        for _ in range(args.repeats):
            wall, cpu = time.perf_counter(), time.process_time()
            explain(one, history, methods=[method])
            took.append((time.perf_counter() - wall, time.process_time() - cpu))
        seconds, processor = (statistics.median(values) for values in zip(*took, strict=True))
        print(f"| {method} | {seconds:.2f} | {processor:.2f} |", flush=True)


if __name__ == "__main__":
    main()
