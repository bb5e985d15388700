"""Bootstrap over users for many columns at once: one matrix product for all systems and metrics.

A mean over targets is a ratio of sums over users, so a resample of users needs the users' sums and counts only. All
columns share the same resamples. It describes rows: whether a difference is significant is no matter of users alone,
see `statistics.rule`.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import scipy

Interval = Literal["bca", "percentile", "t"]
BLOCK_VALUES = 1 << 22
"""Weights drawn at once: bounds the memory at 32 MB."""


def user_sums(values: np.ndarray, user: np.ndarray, weight: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """values (N, C) of units, user (N,) any integer code, weight (N,) of the units in a mean, None = 1 each -> sums
    (U, C) of weighted values and (U,) of weights."""
    _, code = np.unique(user, return_inverse=True)
    counts = np.bincount(code, weights=weight)
    if weight is not None:
        values = values * weight[:, None]
    if len(counts) == len(values):  # one unit each
        sums = np.empty_like(values)
        sums[code] = values
    else:
        sums = np.stack([np.bincount(code, weights=column) for column in values.T], axis=1)
    return sums, counts.astype(np.float64)


def bootstrap_means(sums: np.ndarray, counts: np.ndarray, resamples: int, seed: int = 0) -> np.ndarray:
    """sums (U, C), counts (U,) -> (resamples, C) means over the targets of users drawn with replacement (Efron)."""
    rng, users = np.random.default_rng(seed), len(counts)
    means = sums.sum(axis=0) / counts.sum()
    both = np.column_stack([sums - means * counts[:, None], counts])
    out = np.empty((resamples, both.shape[1]))
    block = max(1, min(resamples, BLOCK_VALUES // users))
    weights = np.empty((block, users))
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        for row in range(rows):  # one at a time: its numbers are counted while they lie in the cache
            weights[row] = np.bincount(rng.integers(users, size=users), minlength=users)
        out[start : start + rows] = weights[:rows] @ both
    return means + out[:, :-1] / out[:, -1:]


def bootstrap_interval(
    drawn: np.ndarray, sums: np.ndarray, counts: np.ndarray, kind: Interval = "bca", level: float = 0.95
) -> np.ndarray:
    """Intervals of C means from their bootstrap draws.

    Args:
        drawn: (B, C) of `bootstrap_means`, or differences of its columns.
        sums: (U, C), counts: (U,): what was drawn from; differences of columns likewise.
        kind: `percentile`, or `bca`: bias-corrected and accelerated (Efron 1987), acceleration by the jackknife.

    Returns:
        (C, 2) low and high.
    """
    means, left_out = sums.sum(axis=0) / counts.sum(), left_out_influence(sums, counts).T
    return interval_of_draws(np.ascontiguousarray(drawn.T), means, left_out, kind, level)


def left_out_influence(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """sums (U, C), counts (U,) -> (U, C): mean of all jackknife means less that without the user. Linear in the sums:
    of a difference of columns it is the difference."""
    total, number = sums.sum(axis=0), counts.sum()
    left_out = np.where(number > counts, number - counts, 1.0)[:, None]
    without = (total - sums) / left_out
    return without.mean(axis=0) - without


def interval_of_draws(
    drawn: np.ndarray, means: np.ndarray, influence: np.ndarray, kind: Interval = "bca", level: float = 0.95
) -> np.ndarray:
    """drawn (C, B), means (C,), influence (C, U) of `left_out_influence` (its scale is free) -> (C, 2), as
    `bootstrap_interval`, rows contiguous: for many small calls."""
    tails = np.array([0.5 - level / 2, 0.5 + level / 2])
    ordered = np.sort(drawn, axis=1)
    if kind == "percentile":
        return _quantiles(ordered, np.broadcast_to(tails, (len(drawn), 2)))
    squares = influence * influence
    skew, spread = np.einsum("cu,cu->c", squares, influence), np.einsum("cu,cu->c", influence, influence)
    acceleration = np.divide(skew, 6 * spread**1.5, out=np.zeros_like(skew), where=spread > 0)
    draws, at = drawn.shape[1], means[:, None]
    below = (np.count_nonzero(drawn < at, axis=1) + np.count_nonzero(drawn <= at, axis=1)) / (2 * draws)
    bias = scipy.special.ndtri(np.clip(below, 1 / (draws + 1), draws / (draws + 1)))[:, None]
    z = bias + scipy.special.ndtri(tails)  # (C, 2)
    return _quantiles(ordered, scipy.special.ndtr(bias + z / (1 - acceleration[:, None] * z)))


def _quantiles(ordered: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """ordered (C, B), levels (C, Q) -> (C, Q), linear between the draws."""
    place = levels * (ordered.shape[1] - 1)
    low = np.floor(place).astype(np.int64)
    high = np.minimum(low + 1, ordered.shape[1] - 1)
    row = np.arange(len(ordered))[:, None]
    below = ordered[row, low]
    return below + (ordered[row, high] - below) * (place - low)
