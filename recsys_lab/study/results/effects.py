"""The effect of each axis: variants that differ in this axis only, paired."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class AxisEffect:
    """Value `a` minus value `b` of an axis in one metric: the mean over all settings of the other axes.

    settings: the other axes' values -> the difference there, mean over seeds; in how many settings it was paired.
    low, high, p_value: over users, each user's difference averaged over settings and seeds.
    seed_deviation: standard deviation over seeds of the mean difference; None where no two seeds are shared by all.
    setting_deviation: standard deviation over the settings; None for a single one.
    reversed_settings: settings in which the difference has the other sign and holds after correction.
    """

    axis: str
    a: str
    b: str
    metric: str
    difference: float
    low: float
    high: float
    p_value: float  # not corrected
    effect_size: float  # Cohen's d over users
    standard_error: float
    users: int
    settings: dict[str, float] = field(default_factory=dict)
    seed_deviation: float | None = None
    setting_deviation: float | None = None
    reversed_settings: list[str] = field(default_factory=list)
    p_corrected: float = float("nan")  # Holm over all axis effects of the study
    smallest_detectable: float = float("nan")

    def holds(self, alpha: float) -> bool:
        """Significant after correction and larger than a seed standard deviation, where that is known."""
        return self.p_corrected < alpha and abs(self.difference) > (self.seed_deviation or 0.0)
