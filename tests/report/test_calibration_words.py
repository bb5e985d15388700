"""What the first sentence of a calibration says of the model: a verdict where enough came true, and none otherwise."""

from __future__ import annotations

import pytest

from recsys_lab.diagnose.reliability_page import verdict


@pytest.mark.parametrize(
    ("confidence", "hits", "targets", "says"),
    [
        (0.003, 6, 1_000, "Too few came true to tell: "),  # between half and four times of it would fit
        (0.05, 0, 20, "Too few came true to tell: "),
        (0.30, 1, 3, "Too few came true to tell: "),
        (0.50, 0, 20, "No, it is over-confident: "),
        (0.10, 100, 1_000, "Yes, on average: "),
        (0.003, 3_000, 1_000_000, "Yes, on average: "),
        (0.20, 100, 1_000, "No, it is over-confident: "),
        (0.05, 100, 1_000, "No, it is under-confident: "),
        (0.99, 20, 20, "Yes, on average: "),
    ],
)
def test_a_verdict_needs_hits(confidence: float, hits: int, targets: int, says: str) -> None:
    text = verdict(confidence, hits, targets)
    assert text.startswith(says) and len(text.split()) <= 25


def test_the_interval_is_that_of_wilson() -> None:
    """By its own equation: (share - p)^2 <= z^2 p (1 - p) / n between its ends."""
    grid = [p / 100_000 for p in range(1, 100_000)]
    inside = [p for p in grid if (0.01 - p) ** 2 <= 1.96**2 * p * (1 - p) / 800]
    assert f"[{inside[0]:.2%}, {inside[-1]:.2%}] would fit".replace("%", " %") in verdict(0.01, 8, 800)
