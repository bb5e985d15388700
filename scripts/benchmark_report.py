"""Time and memory of a study's report over many runs: made run folders, real statistics.

    python scripts/benchmark_report.py --folder report-benchmark --runs 500 --users 20000

One study of three axes in one block: 500 runs are 250 variants with 2 seeds. Ranks are drawn, not trained; each folder
holds what a run leaves behind. Folders that are there are not made again. CPU seconds are told beside those of the
clock, which other work on the machine makes longer.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import resource
import time
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from recsys_lab.metrics.ranking import RANKING_METRICS
from recsys_lab.study.plan import Plan, PlannedRun, Study, Variant
from recsys_lab.study.plan.study_file import AxisValue

EVALUATION = {
    "dataset": "made",
    "data_hash": "d" * 16,
    "vocabulary_hash": "v" * 16,
    "tie_order": "file",
    "split": "leave_one_out (leaky)",
    "split_hash": "s" * 16,
    "exclude_seen": "history",
    "ties": "expected",
    "cold_targets": "miss",
    "retrained": False,
}


def made_plan(root: Path, axes: dict[str, list[str]], seeds: int, users: int, name: str = "benchmark") -> Plan:
    """A plan whose runs are all finished; makes what is missing of their folders."""
    study = Study(
        file=root / "study.yaml",
        name=name,
        question="Which of these made choices matters?",
        axes={axis: [AxisValue(label, {axis: label}) for label in labels] for axis, labels in axes.items()},
        seeds=tuple(range(seeds)),
        root=root,
    )
    targets = made_targets(users)
    skill = {(axis, label): 0.15 * i for axis, labels in axes.items() for i, label in enumerate(labels)}
    variants, runs = [], []
    for labels in product(*axes.values()):
        values = dict(zip(axes, labels, strict=True))
        label = "_".join(labels)
        identity = hashlib.sha256(label.encode()).hexdigest()
        variant = Variant(label, values, {"data": {"dataset": "made"}}, identity, study.seeds)
        variants.append(variant)
        for seed in study.seeds:
            folder = study.folder / variant.folder_name / f"seed{seed}"
            if not (folder / "ranks.parquet").is_file():
                make_run(folder, study.name, variant, seed, targets, sum(skill[one] for one in values.items()))
            runs.append(PlannedRun(study.name, variant, seed, folder, "finished"))
    return Plan(study, variants, runs)


def made_targets(users: int) -> pl.DataFrame:
    """What ranks.parquet says of its targets."""
    rng = np.random.default_rng(0)
    return pl.DataFrame(
        {
            "user_id": [f"user{i:07d}" for i in range(users)],
            "target_item_id": [f"item{i}" for i in rng.integers(0, 5_000, users)],
            "query_time": rng.integers(0, 10**9, users),
            "is_cold": np.zeros(users, dtype=bool),
            "history_length": rng.integers(1, 300, users),
            "popularity_decile": rng.integers(1, 11, users),
            "gap_seconds": rng.integers(0, 10**7, users),
            "is_repeat": rng.random(users) < 0.1,
        }
    )


def make_run(folder: Path, study: str, variant: Variant, seed: int, targets: pl.DataFrame, skill: float) -> None:
    """A run folder as RunFolder writes it. Users differ in how hard they are, the same way for every variant."""
    folder.mkdir(parents=True, exist_ok=True)
    users = len(targets)
    own = np.random.default_rng([int(variant.identity[:8], 16), seed])
    hardness = np.random.default_rng(1).normal(4.0, 1.5, users)
    ranks = np.ceil(np.exp(np.clip(hardness - 0.2 * skill + own.normal(0, 0.7, users), 0, math.log(5_000))))
    greater, ties = ranks.astype(np.int64) - 1, np.zeros(users, dtype=np.int64)
    columns = {"rank": ranks, "num_greater": greater, "num_ties": ties}
    targets.with_columns(pl.Series(name, values) for name, values in columns.items()).write_parquet(
        folder / "ranks.parquet"
    )
    final = {f"{name}@10": float(metric(greater, ties, 10).mean()) for name, metric in RANKING_METRICS.items()}
    epochs = 30
    rows = ["epoch,step,seconds,lr,train/loss,val/ndcg@10"]
    for epoch in range(epochs):
        value = final["ndcg@10"] * (1 - math.exp(-(epoch + 1) / 6)) + own.normal(0, 0.0005)
        rows.append(f"{epoch},{100 * (epoch + 1)},{2 + own.random():.3f},0.001,{8 - epoch / 10:.3f},{value}")
    (folder / "metrics.csv").write_text("\n".join(rows) + "\n")
    metrics = {f"{stage}/{name}": value for stage in ("val", "test") for name, value in final.items()}
    (folder / "metrics.json").write_text(json.dumps({"epoch": epochs - 4, "train/loss": 5.1, **metrics}))
    manifest: dict[str, Any] = {
        "command": f"recsys-lab fit --config {folder.name}/run.yaml",
        "study": study,
        "variant": variant.label,
        "seed": seed,
        "model": "SASRec",
        "loss": "CrossEntropy",
        "parameters": 100_000 + int(variant.identity[:4], 16),
        "evaluation": EVALUATION | {"test_targets": users, "cold_test_targets": 0},
        "audit": None,
        "device": "cpu, 1 threads",
        "commit": "0" * 40,
        "dirty": False,
        "versions": {"python": "3.11", "recsys-lab": "0.1.0"},
        "stopped_by": "patience",
        "epochs": epochs,
        "best_epoch": epochs - 4,
        "train_seconds": round(60 + 60 * own.random(), 2),
        "wall_seconds": 130.0,
        "tokens_per_second": 30_000.0,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2))


def grid(variants: int) -> dict[str, list[str]]:
    """Axes of about so many variants: 5 x 5 x the rest."""
    rest = max(1, variants // 25)
    sizes = {"encoder": 5, "loss": 5, "setting": rest} if variants >= 25 else {"encoder": max(2, variants)}
    return {axis: [f"{axis}{i}" for i in range(size)] for axis, size in sizes.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("report-benchmark"))
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--seeds", type=int, default=2)
    chosen = parser.parse_args()
    plan = made_plan(chosen.folder, grid(chosen.runs // chosen.seeds), chosen.seeds, chosen.users)
    print(f"{len(plan.runs)} runs of {chosen.users:,} users in {chosen.folder}", flush=True)
    before = peak_mb()

    from recsys_lab.report.study.page import study_page
    from recsys_lab.report.study.write import write_report
    from recsys_lab.study.results import read_results

    begin = time.perf_counter()
    start, cpu = time.perf_counter(), time.process_time()
    results = read_results(plan)
    told(f"read_results (peak {before:.0f} MB before)", start, cpu)
    start, cpu = time.perf_counter(), time.process_time()
    page = study_page(results)
    told(f"the page, {len(page.html) / 1e6:.1f} MB", start, cpu)
    start, cpu = time.perf_counter(), time.process_time()
    write_report(results, page, chosen.folder / "report")
    told("all files, figures as SVG and PNG included", start, cpu)
    print(f"the whole report: {time.perf_counter() - begin:.1f} s")
    print(f"{sum(len(block.comparison.pairs) for block in results.blocks):,} pairs and metrics")
    print(results.answer.sentence)


def told(what: str, start: float, cpu: float) -> None:
    wall, cpu = time.perf_counter() - start, time.process_time() - cpu
    print(f"{what}: {wall:.1f} s, {cpu:.1f} s of CPU, peak {peak_mb():.0f} MB", flush=True)


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
