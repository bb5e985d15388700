"""Ranks of targets, and everything that is computed from ranks."""

from recsys_lab.metrics.ranking import MISS, RANKING_METRICS, ranking_metrics
from recsys_lab.metrics.ranks import Ranks, target_ranks

__all__ = ["MISS", "RANKING_METRICS", "Ranks", "ranking_metrics", "target_ranks"]
