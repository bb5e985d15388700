"""What shuffled histories cost a model: the relative change with its interval, and how far the lists differ."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recsys_lab.statistics.rule import Estimate, estimate
from recsys_lab.words import PAD_ID

Bounds = tuple[float, float]


@dataclass(frozen=True)
class ShuffleEffect:
    """One kind of shuffle against the original order, over the same targets. nan: can't be known."""

    original: float
    shuffled: float  # mean over seeds
    seed_deviation: float  # standard deviation over seeds of the mean over targets; nan with one seed
    change: float  # shuffled / original - 1; nan where the original is 0
    change_interval: Bounds  # 95 %, over users
    jaccard: float  # of the first K of both lists, mean over targets and seeds
    jaccard_interval: Bounds  # 95 %, over users


def shuffle_effect(original: np.ndarray, shuffled: np.ndarray, jaccard: np.ndarray, user: np.ndarray) -> ShuffleEffect:
    """Compares the values of a metric before and after.

    Intervals are over users, and paired: each user's value before with the mean over seeds after. The shuffles of one
    user are independent of another's, so what S shuffles leave to chance is within the interval.

    Args:
        original: (N,) per target.
        shuffled: (S, N) per seed and target.
        jaccard: (S, N) of `list_overlap`.
        user: (N,) any integer code.
    """
    means = shuffled.mean(axis=1)
    ratio = ratio_of_means(shuffled.mean(axis=0), original, user)
    overlap = estimate(jaccard.mean(axis=0), user)
    low, high = interval(ratio)
    return ShuffleEffect(
        original=float(original.mean()),
        shuffled=float(means.mean()),
        seed_deviation=float(means.std(ddof=1)) if len(means) > 1 else float("nan"),
        change=ratio.mean - 1,
        change_interval=(low - 1, high - 1),
        jaccard=overlap.mean,
        jaccard_interval=interval(overlap),
    )


def ratio_of_means(a: np.ndarray, b: np.ndarray, user: np.ndarray) -> Estimate:
    """mean(a) / mean(b), (N,) each, with its standard error over users by the delta method (Taylor linearisation of a
    ratio of sums over users); nan where mean(b) is 0."""
    base = float(b.mean())
    if base == 0:
        return Estimate(float("nan"), float("nan"), len(np.unique(user)))
    ratio = float(a.mean()) / base
    residual = estimate(a - ratio * b, user)
    return Estimate(ratio, residual.standard_error / abs(base), residual.users)


def interval(found: Estimate) -> Bounds:
    """95 %: t quantile times standard error around the mean."""
    return found.mean - found.half_width(), found.mean + found.half_width()


def list_overlap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Jaccard similarity of lists: (N, K), (N, K) distinct items -> (N,) items in both / items in either.

    `PAD_ID` fills lists shorter than K; two empty lists are alike (1).
    """
    shared = ((a[:, :, None] == b[:, None, :]) & (a != PAD_ID)[:, :, None]).sum(axis=(1, 2))
    either = (a != PAD_ID).sum(axis=1) + (b != PAD_ID).sum(axis=1) - shared
    return np.where(either > 0, shared / np.maximum(either, 1), 1.0)
