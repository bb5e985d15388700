"""Temperature scaling on the validation targets, with any number of processes."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch

from recsys_lab.arguments import Positive
from recsys_lab.evaluation.calibration_metrics import likelihood_slope
from recsys_lab.evaluation.callback import RankingEvaluation
from recsys_lab.evaluation.measure import EvaluationSetting, Measure, ScoredRows
from recsys_lab.evaluation.temperature_search import TemperatureFit, minimise_nll
from recsys_lab.ops.processes import sum_over_processes
from recsys_lab.words import RecsysLabError


class LikelihoodSlope(Measure):
    """Mean nll of the targets that have a probability, and its derivatives by 1 / temperature: one step of Newton."""

    def __init__(self, inverse_temperature: Positive = 1.0) -> None:
        self.inverse_temperature = inverse_temperature
        self.last: tuple[float, float, float] | None = None
        """nll and its first and second derivative; None where no target has a probability."""

    def start(self, setting: EvaluationSetting) -> None:
        self._sums = torch.zeros(4, dtype=torch.float64)

    def add(self, rows: ScoredRows) -> None:
        rows = rows.reachable()
        if len(rows.target_ids):
            slopes = likelihood_slope(rows.candidate_scores, rows.target_ids, self.inverse_temperature)
            self._sums[:3] += slopes.sum(dim=0)
            self._sums[3] += len(slopes)

    def finish(self) -> dict[str, float]:
        nll, slope, curvature, count = sum_over_processes(self._sums).tolist()
        self.last = (nll / count, slope / count, curvature / count) if count else None
        return {"nll": self.last[0]} if self.last else {}


def fit_temperature(trainer: L.Trainer, model: L.LightningModule, datamodule: Any) -> TemperatureFit:
    """The temperature that makes the validation targets most likely; each step is one `trainer.validate`.

    Raises:
        RecsysLabError: when the trainer has no RankingEvaluation, or no temperature is best (see `minimise_nll`).
    """
    callbacks: list[L.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    evaluation = next((c for c in callbacks if isinstance(c, RankingEvaluation)), None)
    if evaluation is None:
        raise RecsysLabError("fit_temperature needs a trainer with a RankingEvaluation among its callbacks")
    measures, step = evaluation.measures, LikelihoodSlope()

    def likelihood(inverse_temperature: float) -> tuple[float, float, float]:
        step.inverse_temperature = inverse_temperature
        trainer.validate(model, datamodule, verbose=False)
        if step.last is None:
            raise RecsysLabError("no validation target has a probability: all are cold, or seen and hidden")
        return step.last

    evaluation.measures = [step]
    try:
        return minimise_nll(likelihood)
    finally:
        evaluation.measures = measures
