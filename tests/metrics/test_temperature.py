"""The temperature that makes targets most likely, against scipy and where there is none."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.optimize import minimize_scalar

from recsys_lab.evaluation.calibration_metrics import likelihood_slope
from recsys_lab.evaluation.temperature_search import minimise_nll
from recsys_lab.words import RecsysLabError


def drawn(scale: float, rows: int = 3_000) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(rows, 12, generator=generator) * 1.5
    targets = torch.multinomial(scores.softmax(dim=1), 1, generator=generator).squeeze(1)
    return scores * scale, targets


@pytest.mark.parametrize("scale", [1e-4, 0.3, 1.0, 3.0, 40.0, 2e4])
def test_finds_the_minimum(scale: float) -> None:
    scores, targets = drawn(scale)

    def likelihood(beta: float) -> tuple[float, float, float]:
        nll, slope, curvature = likelihood_slope(scores, targets, beta).mean(dim=0).tolist()
        return nll, slope, curvature

    fit = minimise_nll(likelihood)
    best = minimize_scalar(
        lambda log_beta: likelihood(math.exp(log_beta))[0], bounds=(-14, 14), options={"xatol": 1e-9}
    )
    assert fit.temperature == pytest.approx(math.exp(-best.x), rel=1e-3)
    assert fit.temperature == pytest.approx(scale, rel=0.05)
    assert fit.nll_after <= fit.nll_before + 1e-9 and fit.nll_before == likelihood(1.0)[0]
    assert fit.steps < 15


def test_a_likelihood_that_fools_newton() -> None:
    """Almost flat at the start: a full Newton step would be thousands of times too long."""

    def softplus(beta: float) -> tuple[float, float, float]:  # minimum of log(1 + e^(20 (x - 5))) - 10 (x - 5) at x = 5
        x = 20 * (beta - 5)
        p = 1 / (1 + math.exp(-x))
        return max(x, 0) + math.log1p(math.exp(-abs(x))) - x / 2, 20 * (p - 0.5), 400 * p * (1 - p)

    assert minimise_nll(softplus).temperature == pytest.approx(1 / 5, rel=1e-4)


def test_scores_that_predict_nothing_have_no_best_temperature() -> None:
    scores, targets = drawn(1.0)
    with pytest.raises(RecsysLabError, match="no better than chance"):
        minimise_nll(lambda beta: tuple(likelihood_slope(-scores, targets, beta).mean(dim=0).tolist()))  # type: ignore[arg-type]


def test_targets_that_are_always_first_have_none_either() -> None:
    scores, _ = drawn(1.0)
    targets = scores.argmax(dim=1)
    with pytest.raises(RecsysLabError, match="highest score"):
        minimise_nll(lambda beta: tuple(likelihood_slope(scores, targets, beta).mean(dim=0).tolist()))  # type: ignore[arg-type]


def test_constant_scores_stay_as_they_are() -> None:
    targets = torch.tensor([1, 2])
    fit = minimise_nll(lambda beta: tuple(likelihood_slope(torch.zeros(2, 4), targets, beta).mean(dim=0).tolist()))  # type: ignore[arg-type]
    assert fit.temperature == 1.0 and fit.steps == 1
