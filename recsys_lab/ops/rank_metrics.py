"""Ranking metrics as plain functions of how many candidates outrank the target and how many are tied with it.

With `greater` candidates above the target and `ties` others at its score, all orders of the tied items are equally
likely, so the target's place is uniform over greater + 1 .. greater + ties + 1. Each metric here is its exact
expectation over these places (McSherry & Najork 2008, "Computing Information Retrieval Performance Measures Efficiently
in the Presence of Tied Scores"). A model that gives all C candidates one score has hit_rate@k k / C.

One target per row, so recall@k = hit_rate@k and the ideal DCG is 1. A target that is no candidate (cold, or seen and
hidden) is a miss: `greater` is `MISS`, `ties` is 0, and every metric is 0.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from recsys_lab.config import Configurable
from recsys_lab.words import RecsysLabError

MISS = 2**31 - 1
"""In place of `greater` where the target is no candidate: more than any catalogue holds, so it is a hit nowhere."""


def hit_rate(greater: np.ndarray, ties: np.ndarray, k: int) -> np.ndarray:
    """(N,), (N,) whole numbers -> (N,) chance that the target is among the first k."""
    return np.clip(k - greater, 0, ties + 1) / (ties + 1)


def ndcg(greater: np.ndarray, ties: np.ndarray, k: int) -> np.ndarray:
    """Expected 1 / log2(place + 1) within the first k (Järvelin & Kekäläinen 2002 with one relevant item)."""
    return _expected(1.0 / np.log2(np.arange(2, k + 2)), greater, ties)


def mrr(greater: np.ndarray, ties: np.ndarray, k: int) -> np.ndarray:
    """Expected 1 / place within the first k."""
    return _expected(1.0 / np.arange(1, k + 1), greater, ties)


RANKING_METRICS: dict[str, Callable[[np.ndarray, np.ndarray, int], np.ndarray]] = {
    "hit_rate": hit_rate,
    "ndcg": ndcg,
    "mrr": mrr,
}


class RankMetric(Configurable, ABC):
    """A metric of your own that the target's place alone decides: what each place is worth.

    `RankingEvaluation(metrics=[MyMetric()])` computes it for every target. `compare --metrics my_package.MyMetric`
    counts it from the ranks of any finished run. As for the others, it is the exact expectation over the places that a
    tied target may take.
    """

    @property
    def name(self) -> str:
        """What stands before @k: the class's own name in small letters, `my_metric`."""
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(self).__name__).lower()

    @abstractmethod
    def gains(self, k: int) -> np.ndarray:
        """(k,) what a target is worth at place 1 .. k; beyond k it is worth nothing. Higher is better."""

    def __call__(self, greater: np.ndarray, ties: np.ndarray, k: int) -> np.ndarray:
        """(N,), (N,) whole numbers -> (N,), as `ndcg` does.

        Raises:
            RecsysLabError: where `gains` gives something else than k finite numbers.
        """
        gains = np.asarray(self.gains(k), dtype=np.float64)
        if gains.shape != (k,) or not np.isfinite(gains).all():
            raise RecsysLabError(f"{type(self).__name__}.gains({k}) must give {k} finite numbers, one for each place")
        return _expected(gains, greater, ties)


def _expected(gains: np.ndarray, greater: np.ndarray, ties: np.ndarray) -> np.ndarray:
    """(k,) gain of each place, (N,), (N,) -> (N,) mean gain of the places that the target may take; 0 beyond k."""
    k = len(gains)
    first, stop = np.minimum(greater, k), np.minimum(greater + ties + 1, k)  # places from 0
    until = np.append(0.0, np.cumsum(gains))  # (k + 1,) sum of the gains before each place
    # Without ties the gain itself: the difference of two sums may differ from it in the last digit.
    return np.where(ties == 0, np.append(gains, 0.0)[first], (until[stop] - until[first]) / (ties + 1))


def mean_place(greater: np.ndarray, ties: np.ndarray) -> np.ndarray:
    """(N,), (N,) -> (N,) float64 mean of the places that the target may take, from 1; inf for a miss."""
    return np.where(greater == MISS, np.inf, greater + 1 + ties / 2)


def means(values: Mapping[str, np.ndarray]) -> dict[str, float]:
    """metric -> (N,) values, as `ranking_values` gives them -> metric -> mean; empty without targets."""
    return {name: float(of_targets.mean()) for name, of_targets in values.items() if len(of_targets)}


def ranking_values(
    greater: np.ndarray, ties: np.ndarray, num_candidates: np.ndarray, cutoffs: Sequence[int]
) -> dict[str, np.ndarray]:
    """(N,) each, of the targets: `hit_rate@k`, `ndcg@k`, `mrr@k` for each cutoff, `auc`, `mean_rank`.

    Args:
        greater: (N,) candidates above the target; `MISS` for a miss.
        ties: (N,) other candidates at the target's score.
        num_candidates: (N,) items that were ranked, the target included.
        cutoffs: K.

    A miss has AUC 0 and the mean rank of the last place. AUC of one target is the share of the other candidates ranked
    below it, (candidates - place) / (candidates - 1); where the target is the only candidate it is 0.5, as for a scorer
    that knows nothing.
    """
    values = {f"{name}@{k}": f(greater, ties, k) for name, f in RANKING_METRICS.items() for k in cutoffs}
    is_miss = greater == MISS
    last = np.maximum(num_candidates, 1).astype(np.float64)
    place = np.minimum(mean_place(greater, ties), last)
    auc = np.where(last > 1, (last - place) / np.maximum(last - 1, 1), 0.5)
    return values | {"auc": np.where(is_miss, 0.0, auc), "mean_rank": place}
