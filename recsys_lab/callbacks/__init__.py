"""Lightning callbacks: evaluation, recommendations, run folders, throughput."""

from recsys_lab.callbacks.each_epoch import EachEpoch
from recsys_lab.callbacks.measures import BeyondAccuracy, Calibration, Measure
from recsys_lab.callbacks.ranking import RankingEvaluation
from recsys_lab.callbacks.recommendations import Recommendations
from recsys_lab.callbacks.run_folder import RunFolder
from recsys_lab.callbacks.temperature import fit_temperature
from recsys_lab.callbacks.throughput import Throughput

__all__ = [
    "BeyondAccuracy",
    "Calibration",
    "EachEpoch",
    "Measure",
    "RankingEvaluation",
    "Recommendations",
    "RunFolder",
    "Throughput",
    "fit_temperature",
]
