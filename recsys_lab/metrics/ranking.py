"""Ranking metrics as plain functions of ranks. One target per row, so recall@k = hit_rate@k and the ideal DCG is 1."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np


def hit_rate(rank: np.ndarray, k: int) -> np.ndarray:
    """(N,) ranks -> (N,) 1.0 where the target is among the first k."""
    return (rank <= k).astype(np.float64)


def ndcg(rank: np.ndarray, k: int) -> np.ndarray:
    """1 / log2(rank + 1) within the first k (Järvelin & Kekäläinen 2002 with one relevant item)."""
    return np.where(rank <= k, 1.0 / np.log2(rank + 1.0), 0.0)


def mrr(rank: np.ndarray, k: int) -> np.ndarray:
    """1 / rank within the first k."""
    return np.where(rank <= k, 1.0 / rank, 0.0)


RANKING_METRICS: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {"hit_rate": hit_rate, "ndcg": ndcg, "mrr": mrr}


def ranking_metrics(rank: np.ndarray, num_candidates: np.ndarray, cutoffs: Sequence[int]) -> dict[str, float]:
    """Means over N targets: `hit_rate@k`, `ndcg@k`, `mrr@k` for each cutoff, `auc`, `mean_rank`.

    Args:
        rank: (N,) from 1, inf for a miss.
        num_candidates: (N,) items that were ranked, the target included.
        cutoffs: K.

    A miss has AUC 0 and the mean rank of the last place. AUC of one target is the share of the other candidates ranked
    below it, (candidates - rank) / (candidates - 1).
    """
    if not len(rank):
        return {}
    metrics = {f"{name}@{k}": float(f(rank, k).mean()) for name, f in RANKING_METRICS.items() for k in cutoffs}
    last = np.maximum(num_candidates, 1).astype(np.float64)
    place = np.minimum(rank, last)
    others = np.maximum(last - 1, 1)
    metrics["auc"] = float(np.where(np.isinf(rank), 0.0, (last - place) / others).mean())
    metrics["mean_rank"] = float(place.mean())
    return metrics
