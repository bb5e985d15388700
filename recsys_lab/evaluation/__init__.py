"""What a model gives for a batch -> ranks -> metrics, lists and probabilities, through one callback. Model and data
come from the Trainer; it knows ops and the ground floor.
"""

from typing import TYPE_CHECKING, Any

from recsys_lab import config
from recsys_lab.config import class_in

if TYPE_CHECKING or config.trains:  # callbacks of Lightning; a parser knows the names of what is imported
    from recsys_lab.evaluation.beyond_accuracy import BeyondAccuracy
    from recsys_lab.evaluation.calibration import Calibration
    from recsys_lab.evaluation.callback import RankingEvaluation
    from recsys_lab.evaluation.measure import Measure
    from recsys_lab.evaluation.outcomes import OutcomeEvaluation

__all__ = ["BeyondAccuracy", "Calibration", "Measure", "OutcomeEvaluation", "RankingEvaluation"]


def __getattr__(name: str) -> Any:
    return class_in(__name__, name)
