"""What a fit or a test has to show at its end."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import polars as pl
from lightning.pytorch import Trainer

from recsys_lab.evaluation.beyond_accuracy import BeyondAccuracy
from recsys_lab.evaluation.callback import RankingEvaluation, shown_cutoff
from recsys_lab.ops.rank_metrics import ndcg
from recsys_lab.runs.baselines import counted_already
from recsys_lab.runs.finished import Run
from recsys_lab.runs.folder import RunFolder, find
from recsys_lab.runs.remarks import not_above, of_best, remarks
from recsys_lab.words import RecsysLabError


class NoValueError(RecsysLabError):
    """A fit that came to its end and has nothing to show."""

    exit_code = 3


def is_result(name: str, value: Any) -> bool:
    """A metric of the validation or the test, and not a share of targets."""
    return name.startswith(("val/", "test/")) and not name.endswith("_target_share") and math.isfinite(value)


def last_lines(trainer: Trainer, home: Path) -> list[str]:
    """What a reader of the test's numbers should know; none where there was no test, or in another process.

    Popularity is compared without a run of its own: its ranks come with `BeyondAccuracy`. Other baselines take part
    where a comparison has counted them.

    Args:
        home: the run folder, which names the study.
    """
    folder, evaluation = find(trainer, RunFolder), find(trainer, RankingEvaluation)
    if not trainer.is_global_zero or folder is None or evaluation is None:
        return []
    path = folder.folder / "ranks.parquet"
    if not path.is_file():
        return []
    manifest = json.loads((folder.folder / "manifest.json").read_text())
    metrics = json.loads((folder.folder / "metrics.json").read_text())
    cutoff = shown_cutoff(evaluation.cutoffs)
    lines = remarks(pl.read_parquet(path), manifest["evaluation"], cutoff)
    value = metrics.get(f"test/ndcg@{cutoff}")
    lines += of_best(value, manifest["evaluation"], cutoff)
    if value is not None and manifest.get("stopped_by") != "counted":
        reached = {
            run.variant: float(run.values("ndcg", cutoff).mean())
            for run in counted_already(Run(home, manifest, metrics))
        }
        popular = next((m.last_popular for m in evaluation.measures if isinstance(m, BeyondAccuracy)), None)
        if popular is not None and len(popular[0]):
            reached["popularity"] = float(ndcg(*popular, cutoff).mean())
        lines += not_above(f"ndcg@{cutoff}", value, reached)
    return lines
