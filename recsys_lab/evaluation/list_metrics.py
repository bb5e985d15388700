"""What recommendation lists are like beyond hitting the target, as plain functions of lists, counts and ranks.

Every mean is over what was recommended (or over the targets), not over users first: sums over any partition of the
evaluation add up to the whole.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from recsys_lab.words import PAD_ID

# ----------------------------------------------------------------------------------------------------------------------
# of how often each item is recommended


def exposure(lists: np.ndarray, num_rows: int) -> np.ndarray:
    """(N, K) item ids, `PAD_ID` where a list is short -> (V,) int64: in how many of the N lists each item is."""
    counts = np.bincount(lists.ravel(), minlength=num_rows).astype(np.int64)
    counts[PAD_ID] = 0
    return counts


def coverage(exposed: np.ndarray, is_candidate: np.ndarray) -> float:
    """Share of the candidate items that anyone is recommended: catalogue coverage (Ge, Delgado-Battenfeld & Jannach
    2010). (V,), (V,) bool -> 0..1."""
    return float((exposed[is_candidate] > 0).mean())


def gini(exposed: np.ndarray, is_candidate: np.ndarray) -> float:
    """Gini index of exposure over the candidate items, the never recommended among them (Fleder & Hosanagar 2009).

    (V,), (V,) bool -> 0 = all are recommended equally often, 1 - 1/#candidates = only one is.
    """
    sorted_up = np.sort(exposed[is_candidate]).astype(np.float64)
    total, n = sorted_up.sum(), len(sorted_up)
    if total == 0:
        return 0.0
    weight = 2 * np.arange(1, n + 1) - n - 1
    return float(weight @ sorted_up / (n * total))


def entropy(exposed: np.ndarray) -> float:
    """Shannon entropy of the exposure shares, in bits: 2^entropy items recommended equally often would be as spread."""
    share = exposed[exposed > 0] / max(exposed.sum(), 1)
    return float(-(share * np.log2(share)).sum()) + 0.0  # + 0.0: never -0.0


def average_popularity(exposed: np.ndarray, item_counts: np.ndarray) -> float:
    """Mean training events of a recommended item (the ARP of Yin et al. 2012, with events for ratings). (V,), (V,)."""
    return float(exposed @ item_counts / max(exposed.sum(), 1))


def novelty(exposed: np.ndarray, item_counts: np.ndarray) -> float:
    """Mean self-information -log2 p(i) of a recommended item, in bits, p(i) = its share of the training events
    (Zhou et al. 2010; MSI of Vargas & Castells 2011; theirs is the share of users). (V,), (V,)."""
    trained = item_counts > 0
    information = -np.log2(item_counts[trained] / item_counts.sum())
    return float(exposed[trained] @ information / max(exposed[trained].sum(), 1))


# ----------------------------------------------------------------------------------------------------------------------
# of the targets


def debiased_hit_rate(hit: np.ndarray, target_counts: np.ndarray, exponent: float) -> float:
    """Hit rate as if popular and rare items had had the same chance to be observed: the self-normalised inverse
    propensity estimate of Yang et al. 2018 ("Unbiased offline recommender evaluation for missing-not-at-random implicit
    feedback"), propensity of a target ~ (its training events)^exponent.

    Args:
        hit: (N,) 0..1: the hit rate of each target (between 0 and 1 where ties decide).
        target_counts: (N,) training events of the target; a cold one weighs as if it had one.
        exponent: (gamma + 1) / 2 in the paper; 0 = the plain hit rate.
    """
    weight = np.maximum(target_counts, 1).astype(np.float64) ** -exponent
    return float(weight @ hit / weight.sum())


def serendipity(hit: np.ndarray, popular_hit: np.ndarray) -> float:
    """Share of the targets that are hit, and that a list of the most popular items (as long, and with the same items
    left out) would not have hit: unexpected and useful (Ge et al. 2010, popularity as the primitive recommender). Where
    ties decide, both lists put theirs in the same order: (N,), (N,) hit rates 0..1; popularity itself has none."""
    return float(np.maximum(hit.astype(np.float64) - popular_hit, 0.0).mean())


# ----------------------------------------------------------------------------------------------------------------------
# of each list


def intra_list_diversity(lists: np.ndarray, features: Any) -> np.ndarray:
    """1 - mean cosine similarity of the pairs of items in each list (Ziegler et al. 2005; Smyth & McClave 2001).

    Args:
        lists: (N, K) item ids, `PAD_ID` where a list is short.
        features: (V, F) scipy sparse matrix; an item's row is its multi-hot features. Items without any are left out.

    Returns:
        (N,) float64 0..1; NaN where fewer than two items of the list have features.
    """
    from scipy import sparse

    length = np.sqrt(np.asarray(features.multiply(features).sum(axis=1)).ravel())
    described = length > 0
    described[PAD_ID] = False
    unit = sparse.diags(np.where(described, 1 / np.where(length > 0, length, 1), 0)) @ features
    rows = np.repeat(np.arange(len(lists)), lists.shape[1])
    shape = (len(lists), features.shape[0])
    members = sparse.csr_matrix((np.ones(lists.size), (rows, lists.ravel())), shape=shape)
    total = members @ unit  # (N, F) sum of each list's unit vectors: its square holds the cosines of all ordered pairs
    n = described[lists].sum(axis=1).astype(np.float64)
    cosines = np.asarray(total.multiply(total).sum(axis=1)).ravel() - n
    pairs = n * (n - 1)
    diversity = 1 - cosines / np.where(pairs > 0, pairs, 1)
    return np.where(pairs > 0, np.clip(diversity, 0.0, 1.0), np.nan)
