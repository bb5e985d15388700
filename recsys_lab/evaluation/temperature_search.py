"""The temperature under which scores are the most likely probabilities (temperature scaling, Guo et al. 2017)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from recsys_lab.words import RecsysLabError

LARGEST = 1e9
"""Temperatures outside 1/LARGEST..LARGEST are none: the likelihood then has no minimum."""
STRIDE = 8.0


@dataclass(frozen=True)
class TemperatureFit:
    """What `fit_temperature` found."""

    temperature: float
    nll_before: float  # at temperature 1
    nll_after: float
    steps: int  # evaluations of the likelihood


def minimise_nll(
    likelihood: Callable[[float], tuple[float, float, float]], tolerance: float = 1e-4, max_steps: int = 60
) -> TemperatureFit:
    """Safeguarded Newton on beta = 1 / temperature, in which the mean nll of a softmax is convex.

    Args:
        likelihood: beta -> mean nll, its first and its second derivative by beta.
        tolerance: relative change of the temperature at which it stops.

    Raises:
        RecsysLabError: when no temperature is best: targets score no better than chance, or always highest.
    """
    beta, low, high, before = 1.0, 0.0, math.inf, math.nan
    for step in range(1, max_steps + 1):
        nll, slope, curvature = likelihood(beta)
        before = nll if step == 1 else before
        if nll == 0 or beta > LARGEST:
            raise RecsysLabError("no temperature is best for these scores: each target has the highest score")
        if slope > 0:
            high = min(high, beta)
        else:
            low = max(low, beta)
        following = _next(beta, slope, curvature, low, high)
        if abs(following - beta) <= tolerance * beta:
            return TemperatureFit(1 / beta, before, nll, step)
        if following < 1 / LARGEST:
            raise RecsysLabError("no temperature is best for these scores: the targets score no better than chance")
        beta = following
    return TemperatureFit(1 / beta, before, nll, max_steps)


def _next(beta: float, slope: float, curvature: float, low: float, high: float) -> float:
    """Newton's step where it stays between what is known to be too low and too high, within a factor of STRIDE."""
    if slope == 0:
        return beta
    newton = beta - slope / curvature if curvature > 0 else math.copysign(math.inf, -slope)
    newton = min(max(newton, beta / STRIDE), beta * STRIDE)
    if low < newton < high:
        return newton
    return math.sqrt(low * high) if low > 0 and high < math.inf else newton
