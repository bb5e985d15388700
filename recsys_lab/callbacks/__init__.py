"""Lightning callbacks: evaluation, recommendations, run folders, throughput."""

from recsys_lab.callbacks.ranking import RankingEvaluation
from recsys_lab.callbacks.recommendations import Recommendations
from recsys_lab.callbacks.run_folder import RunFolder
from recsys_lab.callbacks.throughput import Throughput

__all__ = ["RankingEvaluation", "Recommendations", "RunFolder", "Throughput"]
