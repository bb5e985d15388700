"""Next-item probabilities and how far they can be believed.

The probability of an item is the softmax of the scores over the candidates of its row: the items with training events,
less the seen ones. Targets that are no candidates (cold, or seen and hidden) have no probability and are left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

AUC_BINS = 1 << 16
BINS_PER_OCTAVE = 4096
"""Bins of x = -log p for the pooled AUC: equal steps of log2(1 + x), so 0.017 % of 1 + x each, up to x = 65,535."""


@dataclass(frozen=True)
class Probabilities:
    """What calibration needs of the softmax of B rows; entries of rows whose target is no candidate mean nothing.

    float64 is on the CPU, whatever device the scores are on: not every device has it.
    """

    nll: Tensor  # (B,) float64, -ln of the target's probability
    brier: Tensor  # (B,) float64, sum over the candidates of (probability - is target)^2
    confidence: Tensor  # (B,) float64, the highest probability
    correct: Tensor  # (B,) float64, 1 where the target alone has it; 1/t where t items share it, the target among them
    log_p: Tensor  # (B, V) float32, -inf where no candidate


def next_item_probabilities(candidate_scores: Tensor, target_ids: Tensor, temperature: float = 1.0) -> Probabilities:
    """Softmax of scores / temperature.

    Args:
        candidate_scores: (B, V) float32, -inf where an item is no candidate of the row.
        target_ids: (B,).
        temperature: above 0.
    """
    top = candidate_scores.amax(dim=1, keepdim=True)  # (B, 1)
    logits = (candidate_scores - top).div_(temperature)  # 0 at the top
    powers = logits.exp()
    total = _exact(powers.sum(dim=1))  # (B,)
    target = _exact(logits.gather(1, target_ids[:, None]).squeeze(1))
    squares = _exact(torch.linalg.vecdot(powers, powers)) / total**2
    shared_by = _exact(torch.count_nonzero(candidate_scores == top, dim=1))
    return Probabilities(
        nll=total.log() - target,
        brier=squares - 2 * target.exp() / total + 1,
        confidence=1 / total,
        correct=(target == 0).double() / shared_by,
        log_p=logits.sub_(total.log().float().to(logits.device)[:, None]),
    )


def likelihood_slope(candidate_scores: Tensor, target_ids: Tensor, inverse_temperature: float) -> Tensor:
    """(B, 3) float64 on the CPU: nll of each row at beta = 1 / temperature, and its first and second derivative by
    beta: mean score less target's score, and variance of the scores, both under the softmax. The second is never
    negative, so nll is convex in beta."""
    shifted = candidate_scores - candidate_scores.amax(dim=1, keepdim=True)
    weighted = (shifted * inverse_temperature).exp_()  # (B, V)
    total = _exact(weighted.sum(dim=1))
    shifted.nan_to_num_(neginf=0.0)  # no candidates: their power is 0
    weighted.mul_(shifted)
    mean = _exact(weighted.sum(dim=1)) / total
    square = _exact(torch.linalg.vecdot(weighted, shifted)) / total
    target = _exact(shifted.gather(1, target_ids[:, None]).squeeze(1))
    variance = (square - mean**2).clamp(min=0)
    return torch.stack([total.log() - inverse_temperature * target, mean - target, variance], dim=1)


def _exact(values: Tensor) -> Tensor:
    return values.cpu().double()


# ----------------------------------------------------------------------------------------------------------------------
# calibration error


@dataclass(frozen=True)
class ReliabilityBins:
    """Bins of a reliability diagram; empty ones are left out."""

    confidence: np.ndarray  # (bins,) mean highest probability
    accuracy: np.ndarray  # (bins,) share of rows where the target had it
    count: np.ndarray  # (bins,) rows

    @property
    def error(self) -> float:
        """Expected calibration error: mean |accuracy - confidence|, weighted by rows (Guo et al. 2017)."""
        return float((self.count * np.abs(self.accuracy - self.confidence)).sum() / max(self.count.sum(), 1))


def equal_width_bins(confidence: np.ndarray, correct: np.ndarray, num_bins: int = 15) -> ReliabilityBins:
    """Bins (0, 1/n], (1/n, 2/n], .. of the highest probability, as Guo et al. 2017. (N,), (N,) in 0..1."""
    return _binned(confidence, correct, np.ceil(confidence * num_bins).astype(np.int64).clip(1, num_bins))


def equal_mass_bins(confidence: np.ndarray, correct: np.ndarray, num_bins: int = 15) -> ReliabilityBins:
    """Bins of as many rows each (Nixon et al. 2019). Rows whose confidence agrees to six decimals stay together, so
    that neither their order nor the rounding of a sum decides who is in which bin. (N,), (N,) in 0..1."""
    _, group, size = np.unique(np.round(confidence, 6), return_inverse=True, return_counts=True)
    middle = np.cumsum(size) - size / 2  # of each group's places
    return _binned(confidence, correct, np.floor(num_bins * middle[group] / max(len(confidence), 1)).astype(np.int64))


def _binned(confidence: np.ndarray, correct: np.ndarray, of: np.ndarray) -> ReliabilityBins:
    _, place, count = np.unique(of, return_inverse=True, return_counts=True)
    mean_confidence, accuracy = (np.bincount(place, weights=values) / count for values in (confidence, correct))
    return ReliabilityBins(mean_confidence, accuracy, count)


# ----------------------------------------------------------------------------------------------------------------------
# telling targets from the other candidates


def auc_histograms(log_p: Tensor, target_ids: Tensor) -> Tensor:
    """(2, AUC_BINS) int64: how many targets, and how many other candidates, have a probability in each bin, bin 0 the
    most likely. log_p: (B, V), -inf where no candidate; target_ids: (B,), each a candidate. Adds up over batches and
    processes."""
    bins = (1 - log_p).log2_().mul_(BINS_PER_OCTAVE).clamp_(max=AUC_BINS - 1).long()  # (B, V)
    targets = torch.bincount(bins.gather(1, target_ids[:, None]).squeeze(1), minlength=AUC_BINS)
    others = torch.bincount(bins.flatten(), minlength=AUC_BINS) - targets
    others[-1] -= torch.count_nonzero(log_p == float("-inf"))  # they fell into the last bin
    return torch.stack([targets, others])


def pooled_auc(histograms: np.ndarray) -> tuple[float, float]:
    """AUC over all pairs of one row's target and any row's other candidate: the chance that the target has the higher
    probability. Pairs within one bin count half.

    Args:
        histograms: (2, bins) as `auc_histograms` gives.

    Returns:
        The AUC, and how far it can be from the exact one: half the share of the pairs within one bin.
    """
    targets, others = histograms.astype(np.float64)
    pairs = targets.sum() * others.sum()
    if pairs == 0:
        return float("nan"), float("nan")
    below = others.sum() - np.cumsum(others)  # in less likely bins
    tied = float(targets @ others / pairs)
    return float(targets @ below / pairs + tied / 2), tied / 2


def grouped_auc(user: np.ndarray, rank: np.ndarray, num_candidates: np.ndarray) -> float:
    """GAUC (Zhou et al. 2018, Deep Interest Network): each user's AUC, weighted by the user's number of targets.

    A user's AUC is over the pairs of a target and another candidate of the same prediction: scores at two times answer
    two questions. It comes from ranks, so ties count half.

    Args:
        user: (N,). rank: (N,) finite, from 1. num_candidates: (N,) the target included.
    """
    _, place, targets = np.unique(user, return_inverse=True, return_counts=True)
    pairs = np.bincount(place, weights=num_candidates - 1.0)
    won = np.bincount(place, weights=num_candidates - rank)
    auc = np.where(pairs > 0, won / np.where(pairs > 0, pairs, 1), 0.5)
    return float(targets @ auc / targets.sum())
