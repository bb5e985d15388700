"""What a fit or a test has to show at its end."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer

from recsys_lab.evaluation.callback import RankingEvaluation, shown_cutoff
from recsys_lab.runs.fit.summary import five_lines, lines_of_test, lines_of_validation, reached_by_counting, run_in
from recsys_lab.runs.folder import RunFolder, find
from recsys_lab.runs.remarks import not_above, of_best, remarks
from recsys_lab.runs.run_files import read_json
from recsys_lab.words import RecsysLabError


class NoValueError(RecsysLabError):
    """A fit that came to its end and has nothing to show."""

    exit_code = 3


def is_result(name: str, value: Any) -> bool:
    """A metric of the validation or the test, and not a share of targets."""
    return name.startswith(("val/", "test/")) and not name.endswith("_target_share") and math.isfinite(value)


def last_lines(trainer: Trainer, home: Path, command: str) -> list[str]:
    """What a reader of the numbers should know, then the summary of a fit, test or validation; none in another process.

    Popularity is compared without a run of its own: its ranks come with `BeyondAccuracy`. Other baselines take part
    where a comparison has counted them, Markov also where it is counted at once.

    Args:
        home: the run folder, which names the study.
        command: fit, test or validate.
    """
    folder, evaluation = find(trainer, RunFolder), find(trainer, RankingEvaluation)
    if not trainer.is_global_zero or folder is None:
        return []
    manifest, metrics = (read_json(folder.folder / f"{name}.json") for name in ("manifest", "metrics"))
    cutoff = shown_cutoff(evaluation.cutoffs) if evaluation is not None else 0
    if command == "validate":
        return lines_of_validation(folder.folder, metrics, cutoff)
    run = run_in(folder.folder, manifest, metrics)
    lines, reached = list[str](), dict[str, float]()
    if run is not None and manifest.get("stopped_by") != "counted":
        reached = reached_by_counting(trainer, run, home, cutoff)
    if run is not None and run.has_cutoff:
        value = metrics.get(f"test/ndcg@{cutoff}")
        lines += remarks(run.all_ranks, manifest["evaluation"], cutoff)
        lines += of_best(value, manifest["evaluation"], cutoff)
        lines += not_above(f"ndcg@{cutoff}", value, reached) if value is not None else []
    if command == "test" and run is not None:
        return [*lines, *lines_of_test(run, cutoff, reached)]
    return [*lines, *five_lines(run, manifest, metrics, home, cutoff, reached)]
