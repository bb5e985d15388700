"""Studies made by hand: run folders with given ranks, and the plan that names them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from small_data import ndcg, outranked

from recsys_lab.statistics.pairs import Method
from recsys_lab.study.plan import Plan, PlannedRun, Study, Variant
from recsys_lab.study.plan.study_file import AxisValue

USERS = 200
QUICK = Method(resamples=200)
"""For tests that don't look at intervals."""
EVALUATION = {
    "dataset": "made",
    "data_hash": "d1",
    "vocabulary_hash": "v1",
    "split": "leave_one_out (leaky)",
    "split_hash": "s1",
    "exclude_seen": "history",
    "ties": "expected",
    "cold_targets": "miss",
    "test_targets": USERS,
}


def ranks_of(skill: float, seed: int = 0, noise: float = 0.3, users: int = USERS) -> np.ndarray:
    """Better with more skill; a user is as hard for everybody."""
    hardness = np.random.default_rng(99).normal(2.5, 1.0, users)
    own = np.random.default_rng([seed, round(abs(skill) * 1000), skill < 0]).normal(0, noise, users)
    return np.ceil(np.exp(np.clip(hardness - skill + own, 0.0, 6.0)))


class MadeStudy:
    """Collects variants; `plan()` gives what make_plan would."""

    def __init__(self, root: Path, axes: dict[str, list[str]], name: str = "made", **more: Any) -> None:
        values = {axis: [AxisValue(label, {}) for label in labels] for axis, labels in axes.items()}
        self.study = Study(root / "study.yaml", name, "Which is better?", axes=values, root=root, **more)
        self.runs: list[PlannedRun] = []
        self.variants: list[Variant] = []

    def add(
        self, values: dict[str, str], seed: int, ranks: np.ndarray | None, label: str = "", **changes: Any
    ) -> PlannedRun:
        """A run; with `ranks` None one that is missing. `changes` go into the manifest or its evaluation."""
        label = label or "_".join(values.values())
        identity = hashlib.sha256(label.encode()).hexdigest()
        variant = next((one for one in self.variants if one.identity == identity), None)
        if variant is None:
            variant = Variant(label, values, {}, identity, (0,))
            self.variants.append(variant)
        folder = self.study.folder / variant.folder_name / f"seed{seed}"
        run = PlannedRun(self.study.name, variant, seed, folder, "missing" if ranks is None else "finished")
        if ranks is not None:
            write_run(folder, ranks, label, seed, **changes)
        self.runs.append(run)
        return run

    def plan(self) -> Plan:
        return Plan(self.study, self.variants, self.runs)


def write_run(folder: Path, ranks: np.ndarray, variant: str, seed: int, **changes: Any) -> Path:
    folder.mkdir(parents=True)
    known = {*EVALUATION, "tie_order", "retrained", "cold_test_targets", "split_warning", "best_possible"}
    manifest = {
        "command": "recsys-lab fit --config run.yaml",
        "variant": variant,
        "study": "made",
        "model": "SASRec",
        "loss": "CrossEntropy",
        "seed": seed,
        "parameters": 1000,
        "evaluation": EVALUATION | {"test_targets": len(ranks)} | {k: v for k, v in changes.items() if k in known},
        "commit": "c0ffee",
        "dirty": False,
        "versions": {"python": "3.11"},
        "device": "cpu, 1 threads",
        "stopped_by": "patience",
        "epochs": 20,
        "best_epoch": 9,
        "train_seconds": 10.0,
    } | {k: v for k, v in changes.items() if k not in known}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    value = float(ndcg(ranks, 10).mean())
    (folder / "metrics.json").write_text(json.dumps({"test/ndcg@10": value, "val/ndcg@10": value, "epoch": 9}))
    (folder / "metrics.csv").write_text("epoch,step,seconds,val/ndcg@10\n0,10,2.5,0.1\n1,20,2.0,\n2,30,1.5,0.2\n")
    users = len(ranks)
    pl.DataFrame(
        {
            "user_id": [f"u{i:05d}" for i in range(users)],
            "target_item_id": list(range(users)),
            "query_time": [0] * users,
            "rank": ranks.astype(float),
            **dict(zip(("num_greater", "num_ties"), outranked(ranks), strict=True)),
            "is_cold": [False] * users,
            "history_length": [1 + i % 30 for i in range(users)],
            "popularity_decile": [1 + i % 10 for i in range(users)],
            "gap_seconds": [i * 100 for i in range(users)],
            "is_repeat": [i % 4 == 0 for i in range(users)],
        }
    ).write_parquet(folder / "ranks.parquet")
    return folder
