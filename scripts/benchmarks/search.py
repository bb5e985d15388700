"""Approximate search against exact search: what it finds, how long it takes, what it holds.

    python scripts/benchmarks/search.py                                 # 100 thousand and 1 million items x 64
    python scripts/benchmarks/search.py --items 10000000 --kinds exact,ivf-pq --queries 200

Vectors are made: 1,000 clusters of unequal size in which items lie close to each other, and lengths that differ, as
those of trained models do. A query is an item of one cluster with noise. Each search is of one query on one thread,
through `ItemIndex` as a predictor calls it, with 20 items of a history left out; its list is the 10 best. Recall is the
share of the exact list that was found. Memory is that of the index alone, beside the table of the model.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Any

from harness import Row, busy_cores, child, groups, head, line, measured, median, not_idle, parser_of, publish, run

KINDS = ("exact", "hnsw", "ivf", "ivf-8bit", "ivf-pq")
CLUSTERS, HISTORY = 1_000, 20


def search(job: Row) -> Row:
    """One kind of index over one number of items."""
    import numpy as np
    import torch

    from recsys_lab.contracts import Batch
    from recsys_lab.evaluation.top_lists import top_lists
    from recsys_lab.models.blocks.item_table import ItemTable, TiedScorer
    from recsys_lab.runs.environment import describe_environment
    from recsys_lab.serve.item_index import ItemIndex

    torch.set_num_threads(job["threads"])
    number, dim, draw = job["items"], job["dim"], np.random.default_rng(0)
    centres = draw.standard_normal((CLUSTERS, dim)).astype(np.float32)
    cluster = np.minimum(draw.exponential(CLUSTERS / 5, number).astype(np.int64), CLUSTERS - 1)
    table = ItemTable(number + 1, dim)
    with torch.no_grad():
        for start in range(0, number, 1 << 18):
            own = cluster[start : start + (1 << 18)]
            made = centres[own] + 0.5 * draw.standard_normal((len(own), dim), dtype=np.float32)
            made *= draw.uniform(0.7, 1.3, (len(own), 1)).astype(np.float32)
            table.weight[1 + start : 1 + start + len(own)] = torch.from_numpy(made)
    scorer: Any = TiedScorer(table)
    is_candidate = torch.ones(number + 1, dtype=torch.bool)
    is_candidate[0] = False

    class Model:
        """As much of a model as lists ask for."""

        def __init__(self) -> None:
            self.scorer = scorer

        def score(self, query: torch.Tensor) -> torch.Tensor:
            with torch.no_grad():
                return scorer.all_scores(query)

    begun = time.perf_counter()
    index = None if job["index"] == "exact" else ItemIndex(scorer, is_candidate, job["index"], job["effort"])
    build_s = time.perf_counter() - begun
    model, lists, seconds, found = Model(), index or top_lists, [], []
    one = torch.zeros(1, 1, dtype=torch.int64)
    for _ in range(job["queries"]):
        near = int(draw.integers(1, number + 1))
        query = table.weight[near : near + 1].detach() + 0.3 * torch.from_numpy(
            draw.standard_normal((1, dim), dtype=np.float32)
        )
        seen = torch.from_numpy(draw.choice(number, HISTORY, replace=False) + 1)
        offsets = torch.tensor([0, HISTORY])
        batch = Batch(one, one[:, 0], one > 0, one, one[:, 0], one[:, 0], seen_ids=seen, seen_offsets=offsets)
        with torch.inference_mode():
            begun = time.perf_counter()
            ((_, items, _),) = lists(model, query, batch, is_candidate, 10, 64 << 20)
            seconds.append(time.perf_counter() - begun)
            exact = items
            if index is not None:
                ((_, exact, _),) = top_lists(model, query, batch, is_candidate, 10, 64 << 20)
        found.append(len(set(items[0].tolist()) & set(exact[0].tolist())) / 10)
    times = 1000 * np.sort(np.array(seconds[len(seconds) // 10 :]))  # the first warm it
    return {
        "recall": float(np.mean(found)),
        "p50_ms": float(times[len(times) // 2]),
        "p99_ms": float(times[int(len(times) * 0.99)]),
        "build_s": build_s,
        "index_mb": 0.0 if index is None else index.bytes() / 2**20,
        "environment": describe_environment(),
    }


def main() -> int:
    parser = parser_of(__doc__, "search.jsonl", rounds=1)
    parser.add_argument("--items", default="100000,1000000")
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--effort", type=int, help="of `ItemIndex` (default: its own)")
    parser.add_argument("--queries", type=int, default=1_000)
    args = parser.parse_args()

    def rows() -> Iterator[Row]:
        for number in range(args.rounds):
            for items in map(int, args.items.split(",")):
                for kind in args.kinds.split(","):
                    busy = busy_cores()
                    job = {"items": items, "dim": args.dim, "effort": args.effort, "queries": args.queries}
                    row = child(__file__, args.threads, kind="search", index=kind, **job)
                    yield {"items": items, "index": kind, "round": number, "busy_cores_before": busy, **row}

    found, lines = measured(rows(), args, dim=args.dim, queries=args.queries, effort=args.effort or "default")
    lines += head("items", "index", "recall@10", "p50 ms", "p99 ms", "build s", "index MB")
    for (items, kind), own in groups(found, "items", "index"):
        recall, *others = (median(own, name) for name in ("recall", "p50_ms", "p99_ms", "build_s", "index_mb"))
        lines.append(line(f"{items:,}", kind, f"{recall:.3f}", *(f"{value:,.1f}" for value in others)))
    return publish(lines + not_idle(found), args.markdown)


JOBS = {"search": search}

if __name__ == "__main__":
    sys.exit(run(main, JOBS))
