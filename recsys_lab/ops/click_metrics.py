"""Metrics of probabilities of yes or no: log-loss, areas under the ROC curve, calibration. Plain arrays in, one value
for each unit out, whose weighted mean is the metric.

An area under the curve is a mean over pairs and not over units. Its values are the area plus N times each unit's
influence on it (DeLong et al. 1988, "Comparing the Areas under Two or More Correlated ROC Curves"): their weighted mean
is the area, and the variance of that mean over users is that of the area (Obuchowski 1997, "Nonparametric Analysis of
Clustered ROC Curve Data").
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recsys_lab.contracts import UnitMetric

SMALLEST = float(np.finfo(np.float64).eps)
"""Probabilities are kept so far from 0 and 1, as scikit-learn does."""


def log_loss(label: np.ndarray, probability: np.ndarray, weight: np.ndarray | None = None) -> UnitMetric:
    """label (N,) 0 or 1, probability (N,) of 1 -> -ln of the probability of what came."""
    p = np.clip(probability.astype(np.float64), SMALLEST, 1 - SMALLEST)
    return UnitMetric(-np.where(label > 0, np.log(p), np.log1p(-p)), weight)


def brier(label: np.ndarray, probability: np.ndarray, weight: np.ndarray | None = None) -> UnitMetric:
    """The squared error of the probability."""
    return UnitMetric((probability.astype(np.float64) - label) ** 2, weight)


def auc(label: np.ndarray, score: np.ndarray, weight: np.ndarray | None = None) -> UnitMetric:
    """Area under the ROC curve: the chance that a one has a higher score than a zero, a tie counting half; NaN where
    there are only ones or only zeros. label, score, weight: (N,)."""
    w = np.ones(len(label)) if weight is None else weight.astype(np.float64)
    place = placements(label, score, w, np.zeros(len(label), dtype=np.int64))
    is_one = label > 0
    ones, zeros = w[is_one].sum(), w[~is_one].sum()
    if not (ones > 0 and zeros > 0):
        return UnitMetric(np.full(len(label), np.nan), weight)
    area = float((w * place)[is_one].sum() / ones)
    own = np.where(is_one, ones, zeros)
    return UnitMetric(area + (ones + zeros) / own * (place - area), weight)


def grouped_auc(
    label: np.ndarray, score: np.ndarray, group: np.ndarray, weight: np.ndarray | None = None
) -> UnitMetric:
    """The mean over groups (users) of their own area, weighted by their units (Zhou et al. 2018, "Deep Interest Network
    for Click-Through Rate Prediction"). Groups with only ones or only zeros are left out: their weight is 0.

    Args:
        group: (N,) any integer code.
    """
    w = np.ones(len(label)) if weight is None else weight.astype(np.float64)
    _, code = np.unique(group, return_inverse=True)
    place, is_one = placements(label, score, w, code), label > 0
    ones = np.bincount(code, weights=w * is_one)
    zeros = np.bincount(code, weights=w * ~is_one)
    has_both = (ones > 0) & (zeros > 0)
    area = np.bincount(code, weights=np.where(is_one, w * place, 0.0)) / np.where(has_both, ones, 1.0)
    return UnitMetric(np.where(has_both, area, 0.0)[code], w * has_both[code])


def one_class_groups(label: np.ndarray, group: np.ndarray) -> int:
    """How many groups `grouped_auc` leaves out."""
    _, code = np.unique(group, return_inverse=True)
    share = np.bincount(code, weights=label > 0) / np.bincount(code)
    return int(((share == 0) | (share == 1)).sum())


def placements(label: np.ndarray, score: np.ndarray, weight: np.ndarray, group: np.ndarray) -> np.ndarray:
    """(N,) of each one, the share of the weight of its group's zeros that it scores above, ties counting half; of each
    zero, the share of its group's ones that score above it. 0 where the group has none of the other kind.

    Args:
        group: (N,) int64 codes from 0.
    """
    is_one = label > 0
    order = np.lexsort((score, group))
    g, s, one, w = group[order], score[order], is_one[order], weight[order]
    first = np.ones(len(g), dtype=bool)
    first[1:] = (g[1:] != g[:-1]) | (s[1:] != s[:-1])  # of each run of equal scores in a group
    tie = np.cumsum(first) - 1
    starts = np.ones(len(g), dtype=bool)
    starts[1:] = g[1:] != g[:-1]
    block = np.cumsum(starts) - 1
    found = np.zeros(len(g))
    for other, sign in ((~one, 1), (one, -1)):  # ones look down at zeros, zeros look up at ones
        of_other = np.where(other, w, 0.0)
        total = np.bincount(block, weights=of_other)[block]
        equal = np.bincount(tie, weights=of_other)
        below = np.cumsum(equal) - equal  # over all groups
        of_group = below[tie] - below[tie[starts]][block]
        share = of_group + equal[tie] / 2
        share = share if sign > 0 else total - share
        found = np.where(~other, np.divide(share, total, out=np.zeros(len(g)), where=total > 0), found)
    out = np.empty(len(g))
    out[order] = found
    return out


def impression_ndcg(label: np.ndarray, score: np.ndarray, impression: np.ndarray) -> UnitMetric:
    """ndcg of the shown items of an impression by their score, expected over the orders of ties, with the label as
    gain; each impression counts once, those without a one not at all.

    Args:
        impression: (N,) any integer code.
    """
    _, code, size = np.unique(impression, return_inverse=True, return_counts=True)
    order = np.lexsort((-score, code))
    c, s, gain = code[order], score[order], np.maximum(label[order].astype(np.float64), 0.0)
    start = np.append(0, np.cumsum(size)[:-1])
    place = np.arange(len(c)) - start[c]
    discount = 1 / np.log2(place + 2)
    first = np.ones(len(c), dtype=bool)
    first[1:] = (c[1:] != c[:-1]) | (s[1:] != s[:-1])
    tie = np.cumsum(first) - 1
    shared = (np.bincount(tie, weights=discount) / np.bincount(tie))[tie]  # the mean discount of tied places
    reached = np.bincount(c, weights=gain * shared, minlength=len(size))
    best_order = np.lexsort((-gain, c))
    best = np.bincount(c[best_order], weights=gain[best_order] * discount, minlength=len(size))
    has_one = best > 0
    ndcg = np.divide(reached, best, out=np.zeros(len(size)), where=has_one)
    return UnitMetric(ndcg[code], np.where(has_one, 1 / size, 0.0)[code])


@dataclass(frozen=True)
class Reliability:
    """Units in bins of equal number by their probability, lowest first; (n,) each."""

    predicted: np.ndarray  # mean probability
    observed: np.ndarray  # share of ones
    count: np.ndarray  # weight of the bin
    error: float  # mean distance of the two, weighted: the expected calibration error


def reliability(
    label: np.ndarray, probability: np.ndarray, weight: np.ndarray | None = None, bins: int = 15
) -> Reliability:
    """Equal-mass bins; units of equal probability share a bin, so that the order of the units does not matter."""
    w = np.ones(len(label)) if weight is None else weight.astype(np.float64)
    order = np.argsort(probability, kind="stable")
    p = probability[order].astype(np.float64)
    code = np.minimum((np.cumsum(w[order]) - w[order] / 2) / w.sum() * bins, bins - 1).astype(np.int64)
    _, value = np.unique(p, return_inverse=True)
    code = code[np.searchsorted(value, value)]  # that of the first of its value
    total = np.bincount(code, weights=w[order], minlength=bins)
    kept = total > 0
    predicted = np.bincount(code, weights=w[order] * p, minlength=bins)[kept] / total[kept]
    observed = np.bincount(code, weights=w[order] * (label[order] > 0), minlength=bins)[kept] / total[kept]
    count = total[kept]
    return Reliability(predicted, observed, count, float((np.abs(predicted - observed) * count).sum() / count.sum()))
