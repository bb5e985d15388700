"""One measurement of the ranking in a process of its own: `python _bench_ranking.py '<job as JSON>'` prints one JSON
line. Jobs (`kind`):

    scores    made queries and items: the score product alone, then with ranks or with top lists, earlier and now; and
              ranks from the product in blocks of items, as evaluation takes them where nothing else needs the scores
    test      `Trainer.test` of an untrained SASRec on made events, earlier and now
    predict   `Trainer.predict` of the same into a Parquet file
    products  the score product in float32, bfloat16 and int8

"Earlier" is tests/metrics/whole_rows.py, the reference of the tests. Both ways get the same numbers in turn, which are
compared: the measurement fails where they differ.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from _bench_child import QUIET, peak_mb

ROOT = Path(__file__).resolve().parents[1]
BATCH = 512  # users of an evaluation batch, as SequenceDataModule makes them
MAX_HISTORY = 20


def earlier_way() -> ModuleType:
    sys.path.insert(0, str(ROOT / "tests" / "metrics"))
    import whole_rows

    return whole_rows


def as_tensor(found: Any) -> Any:
    """Ranks -> (B, 2) int64."""
    import torch

    return torch.stack([found.num_greater, found.num_ties], dim=1)


def measure_scores(job: dict[str, Any]) -> dict[str, Any]:
    """Seconds of each way for all users, medians over the rounds."""
    import torch
    import torch.nn.functional as F

    from recsys_lab.callbacks.row_blocks import row_blocks
    from recsys_lab.metrics import ranks, top_items
    from recsys_lab.metrics.linear_ranks import BLOCK_SCORES, linear_target_ranks
    from recsys_lab.schema import Batch

    users, items, width = job["users"], job["items"], job["width"]
    torch.manual_seed(0)
    table = torch.randn(items + 1, width)
    is_candidate = torch.rand(items + 1) > 0.01
    is_candidate[0] = False

    def batches() -> Iterator[tuple[Batch, torch.Tensor]]:
        for start in range(0, users, BATCH):
            size = min(BATCH, users - start)
            history = torch.randint(1, items + 1, (size, min(MAX_HISTORY, items))).sort(dim=1).values
            new = torch.ones_like(history, dtype=torch.bool)
            new[:, 1:] = history.diff(dim=1) > 0
            offsets = F.pad(new.sum(dim=1).cumsum(0), (1, 0))
            target, one = torch.randint(1, items + 1, (size,)), torch.ones(size, 1, dtype=torch.int64)
            batch = Batch(one, target, one > 0, one, one, one[:, 0], target, history[new], offsets, target)
            yield batch, torch.randn(size, width)

    made = list(batches())
    earlier = earlier_way()
    ways: dict[str, Callable[..., Any]] = {
        "product": lambda scores, target, seen, offsets: None,
        "ranks earlier": lambda s, t, seen, o: as_tensor(earlier.target_ranks(s, t, is_candidate, seen, o)),
        "ranks": lambda s, t, seen, o: as_tensor(ranks.target_ranks(s, t, is_candidate, seen, o)),
    }
    for k in job["k"]:
        ways[f"top-{k} earlier"] = lambda s, t, seen, o, k=k: earlier.top_items(s, is_candidate, seen, o, k)[0]
        ways[f"top-{k}"] = lambda s, t, seen, o, k=k: top_items.top_items(s, is_candidate, seen, o, k)[0]
    seconds: dict[str, list[float]] = {name: [] for name in [*ways, "product in blocks", "ranks in blocks"]}
    results: dict[str, Any] = {}
    for _ in range(job["rounds"] + 1):
        for name, way in ways.items():
            found = []
            started = time.perf_counter()
            for batch, query in made:
                for rows, seen, offsets in row_blocks(batch, items + 1, 64 << 20):
                    found.append(way(F.linear(query[rows], table), batch.target_ids[rows], seen, offsets))
            seconds[name].append(time.perf_counter() - started)
            results[name] = found
        started, step = time.perf_counter(), max(1, BLOCK_SCORES // min(BATCH, users))
        for _, query in made:
            for start in range(1, items + 1, step):
                F.linear(query, table[start : start + step])
        seconds["product in blocks"].append(time.perf_counter() - started)
        started, found = time.perf_counter(), []
        for batch, query in made:
            seen = (batch.seen_ids, batch.seen_offsets)
            found.append(linear_target_ranks(query, table, None, batch.target_ids, is_candidate, *seen))
        seconds["ranks in blocks"].append(time.perf_counter() - started)
    whole = torch.cat(results["ranks earlier"]).split([len(batch) for batch, _ in made])
    fell_back = [one is None for one in found]
    for one, other in zip(found, whole, strict=True):
        assert one is None or torch.equal(as_tensor(one), other), "ranks in blocks: another result than earlier"
    for name in ways:
        if f"{name} earlier" in ways:
            for one, other in zip(results[name], results[f"{name} earlier"], strict=True):
                assert torch.equal(one, other), f"{name}: another result than earlier"
    medians = {name: statistics.median(values[1:]) for name, values in seconds.items()}  # the first is warm-up
    fastest = min(medians["product"], medians["product in blocks"])
    gflops = 2 * users * (items + 1) * width / fastest / 1e9
    return {"seconds": medians, "gflops": gflops, "fell_back": sum(fell_back), "batches": len(made)}


def measure_test(job: dict[str, Any]) -> dict[str, Any]:
    import lightning as L

    from recsys_lab.callbacks import RankingEvaluation, ranking

    earlier, now = earlier_way().target_ranks, ranking.target_ranks
    data, model = made_data(job), made_model(job)
    seconds: dict[str, list[float]] = {"earlier": [], "now": []}
    metrics = {}
    for _ in range(job["rounds"] + 1):
        for name, way in (("earlier", earlier), ("now", now)):
            ranking.target_ranks = way
            evaluation = RankingEvaluation()
            trainer = L.Trainer(callbacks=[evaluation], limit_test_batches=-(-job["users"] // BATCH), **QUIET)
            started = time.perf_counter()
            trainer.test(model, data, verbose=False)
            seconds[name].append(time.perf_counter() - started)
            metrics[name] = evaluation.last_metrics
            assert evaluation.last_ranks is not None
            users = len(evaluation.last_ranks)
    assert metrics["earlier"] == metrics["now"], "other metrics than earlier"
    return {"users": users, "seconds": {name: statistics.median(values[1:]) for name, values in seconds.items()}}


def measure_predict(job: dict[str, Any]) -> dict[str, Any]:
    import lightning as L
    import polars as pl
    import torch

    from recsys_lab.callbacks import Recommendations

    data, model = made_data(job), made_model(job)
    recommendations = Recommendations(Path(job["folder"]).parent / "recommendations.parquet", top_k=job["k"])
    seconds = {}

    class Clock(L.Callback):
        def on_predict_end(self, trainer: Any, pl_module: Any) -> None:  # before that of Recommendations
            seconds["lists"] = time.perf_counter() - started

    limit = -(-job["users"] // BATCH)
    trainer = L.Trainer(callbacks=[Clock(), recommendations], limit_predict_batches=limit, **QUIET)
    before, started = peak_mb(), time.perf_counter()
    with torch.inference_mode():
        trainer.predict(model, data, return_predictions=False)
    seconds["all"] = time.perf_counter() - started
    file = pl.scan_parquet(recommendations.path)
    return {
        "users": file.select(pl.col("user_id").n_unique()).collect().item(),
        "seconds": seconds,
        "mb_before": before,
        "file_mb": recommendations.path.stat().st_size / 1e6,
    }


def measure_products(job: dict[str, Any]) -> dict[str, Any]:
    """Billions of multiplications and additions per second; None where this torch or this machine can't."""
    import torch
    import torch.nn.functional as F

    torch.manual_seed(0)
    query, table = torch.randn(64, job["width"]), torch.randn(job["items"] + 1, job["width"])
    query_8, table_8 = ((20 * x).round().clamp(-127, 127).to(torch.int8) for x in (query, table))
    query_16, table_16 = query.bfloat16(), table.bfloat16()
    ways: dict[str, Callable[[], Any]] = {
        "float32": lambda: F.linear(query, table),
        "bfloat16": lambda: F.linear(query_16, table_16),
        "int8": lambda: torch._int_mm(query_8, table_8.T),
    }
    found: dict[str, Any] = {"instructions": torch.backends.cpu.get_cpu_capability()}
    for name, way in ways.items():
        try:
            way()
        except (RuntimeError, AttributeError):
            found[name] = None
            continue
        seconds = []
        for _ in range(5 * job["rounds"]):
            started = time.perf_counter()
            way()
            seconds.append(time.perf_counter() - started)
        found[name] = 2 * query.numel() * len(table) / statistics.median(seconds) / 1e9
    return found


def made_data(job: dict[str, Any]) -> Any:
    from recsys_lab.data.datamodule import SequenceDataModule

    data = SequenceDataModule(job["folder"], max_length=10, eval_batch_size=BATCH)
    assert data.item_counts.any()  # the data is opened and the split made before the clock starts
    return data


def made_model(job: dict[str, Any]) -> Any:
    from recsys_lab.models import SASRec

    return SASRec(embedding_dim=job["width"], num_layers=2)  # untrained: its scores cost the same


MEASUREMENTS = {
    "scores": measure_scores,
    "test": measure_test,
    "predict": measure_predict,
    "products": measure_products,
}


def main() -> None:
    job = json.loads(sys.argv[1])
    if job["kind"] == "prepare":
        from evaluation_scale import prepare_made

        prepare_made(job)
        print("{}")
        return
    import lightning as L
    import torch

    from recsys_lab.callbacks.environment import describe_environment

    torch.set_num_threads(job["threads"])
    L.seed_everything(0, verbose=False)
    with torch.no_grad():
        found = MEASUREMENTS[job["kind"]](job)
    found["peak_mb"] = peak_mb()
    print(json.dumps({**job, **found, "environment": describe_environment()}))


if __name__ == "__main__":
    main()
