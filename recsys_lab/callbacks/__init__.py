"""Lightning callbacks: evaluation, recommendations, run folders, throughput."""

from recsys_lab.callbacks.ranking import RankingEvaluation

__all__ = ["RankingEvaluation"]
