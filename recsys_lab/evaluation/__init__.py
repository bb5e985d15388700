"""Scores of a model -> ranks -> metrics, and the one callback that does it."""

from recsys_lab.evaluation.beyond_accuracy import BeyondAccuracy
from recsys_lab.evaluation.calibration import Calibration
from recsys_lab.evaluation.callback import RankingEvaluation
from recsys_lab.evaluation.measure import Measure

__all__ = ["BeyondAccuracy", "Calibration", "Measure", "RankingEvaluation"]
