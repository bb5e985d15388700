"""Metrics of predicted labels, each as one value for every unit, of which it is the weighted mean.

Macro-F1 and the calibration error are no means. A unit's value of such a metric is the metric plus the number of units
times the unit's influence on it: its mean is the metric, and the variance of that mean is that of the metric (the delta
method). Equal to scikit-learn and to torchmetrics, which have no values of single units.
"""

from __future__ import annotations

import numpy as np

BINS = 15
"""Of the calibration error: as in Guo et al. 2017, "On Calibration of Modern Neural Networks"."""


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """(N, C) -> (N, C) float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True, initial=-np.inf)
    found: np.ndarray = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return found


def log_losses(log_p: np.ndarray, label: np.ndarray) -> np.ndarray:
    """(N, C) log-probabilities, (N,) classes -> (N,) -ln p of each one's own class."""
    return -log_p[np.arange(len(label)), label]


def macro_f1_values(label: np.ndarray, predicted: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """F1 of each class, averaged over the classes that occur among labels or predictions, as scikit-learn does.

    Args:
        label, predicted: (N,) classes. weight: (N,) not negative; 0 = the unit is left out.

    Returns:
        (N,) float64 values whose weighted mean is the macro-F1.
    """
    num_classes = int(max(label.max(initial=-1), predicted.max(initial=-1))) + 1
    hit = label == predicted
    true = np.bincount(label, weight, num_classes)
    both = true + np.bincount(predicted, weight, num_classes)  # (C,): 2 TP + FP + FN
    hits = np.bincount(label, weight * hit, num_classes)
    occurs = both > 0
    if not occurs.any():
        return np.full(len(label), np.nan)
    both = np.where(occurs, both, 1.0)
    f1 = np.where(occurs, 2 * hits / both, 0.0)  # of each class
    # d f1_c / d weight_i = (2 [i is a hit of c] - f1_c ([label_i = c] + [predicted_i = c])) / both_c
    influence = (2 * hit - f1[label]) / both[label] - f1[predicted] / both[predicted]
    found: np.ndarray = (f1.sum() + weight.sum() * influence) / occurs.sum()
    return found


def f1_of_classes(label: np.ndarray, predicted: np.ndarray, weight: np.ndarray, num_classes: int) -> np.ndarray:
    """(C,) F1 of each class; NaN where it occurs among neither labels nor predictions."""
    hits = np.bincount(label, weight * (label == predicted), num_classes)
    both = np.bincount(label, weight, num_classes) + np.bincount(predicted, weight, num_classes)
    return np.where(both > 0, 2 * hits / np.where(both > 0, both, 1.0), np.nan)


def calibration_values(confidence: np.ndarray, correct: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Expected calibration error: mean |share of correct - mean confidence| over `BINS` equal bins of the confidence,
    each with its share of the units.

    Args:
        confidence: (N,) the highest probability. correct: (N,) bool. weight: (N,) not negative.

    Returns:
        (N,) float64 values whose weighted mean is the error.
    """
    of = np.ceil(confidence * BINS).astype(np.int64).clip(1, BINS) - 1
    gap = confidence - correct
    sign = np.sign(np.bincount(of, weight * gap, BINS))
    found: np.ndarray = sign[of] * gap
    return found


def reliability(confidence: np.ndarray, correct: np.ndarray, num_bins: int = BINS) -> dict[str, np.ndarray]:
    """`predicted`, `observed` and `count` of each equal bin that is not empty, and the calibration `error`.

    Args:
        confidence: (N,) the highest probability. correct: (N,) bool.
    """
    of = np.ceil(confidence * num_bins).astype(np.int64).clip(1, num_bins) - 1
    count = np.bincount(of, minlength=num_bins)
    predicted, observed = (np.bincount(of, values, num_bins) for values in (confidence, correct.astype(np.float64)))
    error = np.abs(predicted - observed).sum() / max(1, count.sum())
    some = count > 0
    means = {"predicted": predicted[some] / count[some], "observed": observed[some] / count[some]}
    return {**means, "count": count[some], "error": error}
