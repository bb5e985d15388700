"""RankingEvaluation: the one place where validation and test turn model outputs into metrics.

Each batch's targets are ranked once (`ranked_batches.py`). At the end the ranks of all processes are gathered once and
put into one order, and every metric is computed from them: the numbers are the same on any number of processes.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import lightning as L
import numpy as np
import polars as pl
import torch

from recsys_lab.arguments import Count, Megabytes
from recsys_lab.config import Configurable
from recsys_lab.evaluation.candidates import Candidates, candidate_mask
from recsys_lab.evaluation.divided_items import answer_others, check_measures
from recsys_lab.evaluation.measure import EvaluationSetting, Measure, numbers_of
from recsys_lab.evaluation.ranked_batches import RankedBatches
from recsys_lab.evaluation.ranked_targets import COLUMNS, RankedTargets
from recsys_lab.ops.processes import gather_rows
from recsys_lab.ops.query_metrics import check_own_names
from recsys_lab.ops.rank_metrics import RankMetric
from recsys_lab.ops.ranks import Ties
from recsys_lab.words import RecsysLabError

log = logging.getLogger("recsys_lab")


def shown_cutoff(cutoffs: Sequence[int]) -> int:
    """The cutoff of the numbers that are printed, and of the metric that decides over epochs: 10, or the next to it."""
    if not cutoffs:
        raise RecsysLabError("--evaluation.cutoffs is empty: give at least one, such as [10]")
    return min(cutoffs, key=lambda k: (abs(k - 10), -k))


def ranks(model: Any) -> bool:
    """Whether the model's task ranks: another one has a callback of its own (`OutcomeEvaluation`)."""
    return bool(getattr(getattr(model, "task", None), "ranks", True))


class RankingEvaluation(Configurable, RankedBatches, L.Callback):
    """Logs `val/<metric>@k` and `test/<metric>@k`; keeps the ranks of the last evaluation.

    Args:
        cutoffs: K of hit_rate, ndcg and mrr; where queries have several targets, also of recall and map.
        ties: how items at the target's score count. `expected`: each metric is its mean over all their orders;
            `conservative` puts all of them above the target, `optimistic` below it.
        cold_targets: a target without training events is a `miss`, or is left out (`drop`); its share is logged.
        max_score_mb: bound on the memory of one block of scores.
        candidates: `trained`: items with a training event. `all`: the others too, by their fields or vectors: another
            task, named in the manifest; the cold targets have metrics of their own then, `ndcg@10_cold`. `cold`: the
            others alone, and only targets among them count: a question for `recsys-lab test`.
        metrics: of the target's place, beside those that are always there, e.g. `[my_package.MyMetric()]`.
        measures: what else `trainer.test` and a `trainer.validate` of its own compute from the same scores, e.g.
            `[BeyondAccuracy(), Calibration()]`; the validation inside `fit` does not.
    """

    def __init__(
        self,
        cutoffs: Sequence[Count] = (1, 5, 10, 20),
        ties: Ties | Literal["mean"] = "expected",
        cold_targets: Literal["miss", "drop"] = "miss",
        max_score_mb: Megabytes = 64,
        measures: list[Measure] | None = None,
        candidates: Candidates = "trained",
        metrics: list[RankMetric] | None = None,
    ) -> None:
        super().__init__()
        if ties == "mean":  # in the config of an older run: its numbers compare as another evaluation
            log.warning("ties mean (the metric of the mean rank) is no longer there: expected is taken instead")
            ties = "expected"
        if cold_targets not in ("miss", "drop"):
            raise RecsysLabError(f"unknown cold_targets {cold_targets!r}; known: miss, drop")
        if not cutoffs or min(cutoffs) < 1:
            raise RecsysLabError(f"cutoffs must be positive, got {list(cutoffs)}")
        self.cutoffs, self.ties, self.cold_targets = tuple(cutoffs), ties, cold_targets
        self.max_score_bytes = max_score_mb << 20
        self.measures, self.candidates = list(measures or ()), candidates
        self.metrics = tuple(metrics or ())
        check_own_names(self.metrics)
        self._running, self._rows, self._is_asked, self._is_candidate = [], [], True, None
        self.last: RankedTargets | None = None
        """The targets of the last evaluation, of all processes."""
        self.last_metrics: dict[str, float] = {}
        self.last_stage = ""

    # -- collecting ----------------------------------------------------------------------------------------------------

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._start(trainer, pl_module, "val")

    def on_test_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._start(trainer, pl_module, "test")

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._finish(trainer, pl_module, "val")

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._finish(trainer, pl_module, "test")

    def _start(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self._rows, self._is_asked = [], ranks(pl_module)
        if not self._is_asked:
            self.last, self.last_metrics = None, {}
            return
        datamodule: Any = trainer.datamodule  # type: ignore[attr-defined]
        self._is_candidate = candidate_mask(datamodule, pl_module, self.candidates)
        self._running = self.measures if trainer.state.fn in ("validate", "test") else []
        check_measures(pl_module, self._running)
        for measure in self._running:
            measure.start(EvaluationSetting(datamodule, stage, self.cutoffs, self.ties, self._is_candidate))

    def of_targets(self, model: Any, datamodule: Any) -> RankedTargets:
        """The test targets as `model` ranks them, on the CPU and without a Trainer: for models that only count, in one
        process."""
        alone = RankingEvaluation(self.cutoffs, self.ties, self.cold_targets, self.max_score_bytes >> 20)
        alone.candidates, alone._is_candidate = self.candidates, candidate_mask(datamodule, model, self.candidates)
        batches = (batch for batch in datamodule.test_dataloader() if batch.target_event is not None)
        rows = [alone.counted(alone.rank_batch(model, model.query(batch), batch)) for batch in batches]
        table = torch.cat(rows) if rows else torch.zeros(0, len(COLUMNS), dtype=torch.int64)
        return RankedTargets.of(table.numpy(), datamodule, "test", self.cutoffs, self.cold_targets == "drop")

    # -- finishing -----------------------------------------------------------------------------------------------------

    def _finish(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if not self._is_asked:
            return
        assert self._is_candidate is not None
        answer_others(pl_module, self._is_candidate, max(self.cutoffs))
        rows = torch.cat(self._rows) if self._rows else torch.zeros(0, len(COLUMNS), dtype=torch.int64)
        self._rows, datamodule = [], trainer.datamodule  # type: ignore[attr-defined]
        drop_cold = self.cold_targets == "drop"
        self.last = RankedTargets.of(
            gather_rows(rows).numpy(), datamodule, stage, self.cutoffs, drop_cold, self.metrics
        )
        if self.candidates == "cold" and not len(self.last.ranks) and not trainer.sanity_checking:
            raise RecsysLabError(
                f"--evaluation.candidates cold: no {stage} target is an item without a training event, so nothing "
                "is to be measured. Train with --evaluation.candidates all, which chooses the epoch by all targets, "
                "and ask then: recsys-lab test RUN --evaluation.candidates cold"
            )
        self.last_stage, metrics = stage, self.last.metrics(datamodule, self.candidates == "all")
        for measure in self._running:
            metrics |= numbers_of(measure, metrics)
        self._running = []
        self.last_metrics = {f"{stage}/{name}": value for name, value in metrics.items()}
        if trainer.state.fn == "fit":
            self.last = replace(self.last)  # without what it keeps for values.parquet, which no fit writes
        if not trainer.sanity_checking:
            bar = f"{stage}/ndcg@{shown_cutoff(self.cutoffs)}"
            for name, value in self.last_metrics.items():
                pl_module.log(name, value, prog_bar=name == bar, rank_zero_only=False)

    @property
    def last_ranks(self) -> np.ndarray | None:
        """(N, 6) int64 of the last evaluation, in the order of `COLUMNS`, sorted by position: by user and time."""
        return None if self.last is None else self.last.ranks

    def tables(self, datamodule: Any) -> dict[str, pl.DataFrame]:
        """The files of a run folder."""
        return {"ranks.parquet": self.ranks_frame(datamodule), "values.parquet": self.values_frame(datamodule)}

    def values_frame(self, datamodule: Any) -> pl.DataFrame:
        """The last evaluation as one table of values: what `values.parquet` holds."""
        whole = {name.removeprefix(f"{self.last_stage}/"): value for name, value in self.last_metrics.items()}
        return self._ranked().values_frame(datamodule, whole)

    def ranks_frame(self, datamodule: Any) -> pl.DataFrame:
        """The last evaluation with the data's own ids, one row per target: what `ranks.parquet` holds."""
        return self._ranked().ranks_frame(datamodule)

    def _ranked(self) -> RankedTargets:
        if self.last is None:
            raise RecsysLabError("no evaluation has run yet: call trainer.test or trainer.validate first")
        return self.last
