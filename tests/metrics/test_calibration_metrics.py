"""Probabilities, calibration errors and AUC against plain Python, autograd and hand-worked cases."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_lab.evaluation.calibration_metrics import (
    auc_histograms,
    equal_mass_bins,
    equal_width_bins,
    grouped_auc,
    likelihood_slope,
    next_item_probabilities,
    pooled_auc,
)

OUT = float("-inf")


def random_rows(seed: int, rows: int = 60, width: int = 11, scale: float = 3.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Candidate scores with some items out, ties, and targets that are candidates."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(rows, width, generator=generator).round(decimals=1) * scale
    out = torch.rand(rows, width, generator=generator) < 0.3
    out[:, 0] = True
    targets = torch.randint(1, width, (rows,), generator=generator)
    out[torch.arange(rows), targets] = False
    return scores.masked_fill(out, OUT), targets


def slow_softmax(row: list[float], temperature: float) -> list[float]:
    top = max(row)
    powers = [math.exp((s - top) / temperature) if s > OUT else 0.0 for s in row]
    return [p / sum(powers) for p in powers]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_probabilities_are_those_of_a_loop(temperature: float) -> None:
    scores, targets = random_rows(0)
    got = next_item_probabilities(scores, targets, temperature)
    for i, (row, target) in enumerate(zip(scores.tolist(), targets.tolist(), strict=True)):
        p = slow_softmax(row, temperature)
        assert got.nll[i].item() == pytest.approx(-math.log(p[target]), rel=1e-6, abs=1e-6)
        brier = sum((q - (j == target)) ** 2 for j, q in enumerate(p))
        assert got.brier[i].item() == pytest.approx(brier, abs=1e-6)
        assert got.confidence[i].item() == pytest.approx(max(p), abs=1e-6)
        at_top = [j for j, score in enumerate(row) if score == max(row)]
        assert got.correct[i].item() == ((1 / len(at_top)) if target in at_top else 0)
        np.testing.assert_allclose(got.log_p[i].exp().numpy(), p, atol=1e-6)


def test_scores_as_they_were() -> None:
    scores, targets = random_rows(1)
    before = scores.clone()
    next_item_probabilities(scores, targets)
    likelihood_slope(scores, targets, 2.0)
    assert torch.equal(scores, before)


@pytest.mark.parametrize("inverse_temperature", [0.1, 1.0, 3.0])
def test_slopes_are_the_derivatives(inverse_temperature: float) -> None:
    scores, targets = random_rows(2)
    beta = torch.tensor(inverse_temperature, dtype=torch.float64, requires_grad=True)
    finite = scores.double().clamp(min=-1e6)  # 0 times infinity is no gradient
    nll = torch.nn.functional.cross_entropy(finite * beta, targets, reduction="sum")
    (first,) = torch.autograd.grad(nll, beta, create_graph=True)
    (second,) = torch.autograd.grad(first, beta)
    got = likelihood_slope(scores, targets, inverse_temperature).sum(dim=0)
    expected = [nll.item(), first.item(), second.item()]
    assert got.tolist() == pytest.approx(expected, rel=1e-5)


# ----------------------------------------------------------------------------------------------------------------------


def test_equal_width_bins_by_hand() -> None:
    confidence, correct = np.array([0.05, 0.1, 0.15, 0.95, 1.0]), np.array([0, 1, 0, 1, 0.5])
    bins = equal_width_bins(confidence, correct, num_bins=10)  # 0.1 belongs to the first bin: (0, 0.1]
    assert bins.count.tolist() == [2, 1, 2]
    assert bins.confidence.tolist() == pytest.approx([0.075, 0.15, 0.975])
    assert bins.accuracy.tolist() == [0.5, 0.0, 0.75]
    assert bins.error == pytest.approx((2 * 0.425 + 0.15 + 2 * 0.225) / 5)


def test_equal_mass_bins_by_hand() -> None:
    confidence = np.array([0.1, 0.9, 0.2, 0.2, 0.2, 0.3])
    correct = np.array([0, 1, 1, 0, 0, 1])
    bins = equal_mass_bins(confidence, correct, num_bins=3)  # the three of 0.2 stay together
    assert bins.count.tolist() == [1, 3, 2]
    assert bins.accuracy.tolist() == pytest.approx([0, 1 / 3, 1])
    assert bins.error == pytest.approx((0.1 + 3 * (1 / 3 - 0.2) + 2 * 0.4) / 6)


@given(st.lists(st.tuples(st.floats(0.001, 1.0), st.sampled_from([0.0, 0.5, 1.0])), min_size=1, max_size=60))
@settings(max_examples=100, deadline=None)
def test_bins_hold_every_row_once_in_any_order(rows: list[tuple[float, float]]) -> None:
    confidence, correct = np.array(rows).T
    for make in (equal_width_bins, equal_mass_bins):
        bins = make(confidence, correct, 7)
        assert bins.count.sum() == len(rows) and len(bins.count) <= 7
        assert (bins.count * bins.confidence).sum() == pytest.approx(confidence.sum())
        # 15 bins can't see less than all together do
        assert bins.error >= abs(confidence.mean() - correct.mean()) - 1e-12
        again = make(confidence[::-1], correct[::-1], 7)
        assert again.count.tolist() == bins.count.tolist() and again.error == pytest.approx(bins.error, abs=1e-12)


def drawn(scale: float, rows: int = 60_000) -> tuple[np.ndarray, np.ndarray]:
    """Confidence and correctness of scores x scale, targets drawn from the softmax of the scores themselves."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(rows, 8, generator=generator) * 1.5
    scores[:, 0] = OUT
    targets = torch.multinomial(scores.softmax(dim=1), 1, generator=generator).squeeze(1)
    p = next_item_probabilities(scores * scale, targets)
    return p.confidence.numpy(), p.correct.numpy()


def test_a_calibrated_model_and_an_over_confident_one() -> None:
    for bins in (equal_width_bins, equal_mass_bins):
        assert bins(*drawn(1.0)).error < 0.01
        assert bins(*drawn(3.0)).error > 0.1


# ----------------------------------------------------------------------------------------------------------------------


def slow_pooled_auc(log_p: torch.Tensor, targets: torch.Tensor) -> float:
    is_target = torch.nn.functional.one_hot(targets, log_p.shape[1]).bool()
    positive, negative = log_p[is_target].tolist(), log_p[~is_target & (log_p > OUT)].tolist()
    wins = sum((p > n) + (p == n) / 2 for p in positive for n in negative)
    return wins / (len(positive) * len(negative))


@pytest.mark.parametrize("scale", [0.01, 3.0, 5_000.0])
def test_pooled_auc_is_that_of_all_pairs_within_the_stated_error(scale: float) -> None:
    scores, targets = random_rows(3, scale=scale)
    log_p = next_item_probabilities(scores, targets).log_p
    got, error = pooled_auc(auc_histograms(log_p, targets).numpy())
    assert got == pytest.approx(slow_pooled_auc(log_p, targets), abs=error + 1e-12)
    assert error < 0.03


def test_histograms_add_up() -> None:
    scores, targets = random_rows(4)
    log_p = next_item_probabilities(scores, targets).log_p
    whole = auc_histograms(log_p, targets)
    assert torch.equal(whole, auc_histograms(log_p[:7], targets[:7]) + auc_histograms(log_p[7:], targets[7:]))
    assert whole.sum(dim=1).tolist() == [len(targets), int((log_p > OUT).sum()) - len(targets)]


def test_extreme_aucs() -> None:
    targets = torch.tensor([1, 2])
    certain = torch.tensor([[OUT, 50.0, 0.0], [OUT, 0.0, 50.0]])
    for scores, auc in ((certain, 1.0), (certain.flip(0), 0.0), (torch.zeros(2, 3), 0.5)):
        log_p = next_item_probabilities(scores.masked_fill(torch.arange(3) == 0, OUT), targets).log_p
        assert pooled_auc(auc_histograms(log_p, targets).numpy())[0] == auc
    assert math.isnan(pooled_auc(np.zeros((2, 4), dtype=int))[0])


def test_grouped_auc_by_hand() -> None:
    # user 0: ranks 1 of 5 and 3 of 5 -> 6 of 8 pairs won; user 7: rank 4 of 11 -> 7 of 10
    user, rank, candidates = np.array([0, 7, 0]), np.array([1.0, 4.0, 3.0]), np.array([5, 11, 5])
    assert grouped_auc(user, rank, candidates) == pytest.approx((2 * 0.75 + 0.7) / 3)
    assert grouped_auc(np.array([3]), np.array([1.0]), np.array([1])) == 0.5  # nothing to be compared with
