"""The effect of each axis: variants that differ in this axis only, paired."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import combinations

import numpy as np

from recsys_lab.study.pairs import Pair, Sample
from recsys_lab.study.results.names import Values, joined, varying_axes
from recsys_lab.study.statistics import holm, smallest_detectable

SeedMeans = dict[int, list[float]]
"""Seed -> mean of each metric; of one variant."""
PairIndex = dict[tuple[int, int, str], Pair]
"""Rows a and b, and metric -> their pair."""


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
    rows: dict[str, tuple[int, int]] = field(default_factory=dict)  # setting -> the two rows of the comparison

    def holds(self, alpha: float) -> bool:
        """Significant after correction and larger than a seed standard deviation, where that is known."""
        return self.p_corrected < alpha and abs(self.difference) > (self.seed_deviation or 0.0)


def axis_effects(
    axes: dict[str, list[str]], values: list[Values], sample: Sample, seed_means: list[SeedMeans], pairs: PairIndex
) -> list[AxisEffect]:
    """All effects inside one block, p not corrected.

    Only what the axis varies varies: a variant is paired with the one that has the same value in every other axis. A
    setting of the other axes where one of the two was excluded or is not finished is left out, for both.

    Args:
        axes: axis -> labels of its values, in order.
        values: of each row; empty for rows that take no part.
        sample: of the rows.
        seed_means: of each row.
        pairs: those of the comparison: an effect with a single setting is one of them.
    """
    found = []
    for axis, labels in axes.items():
        others = [name for name in axes if name != axis]
        settings: dict[tuple[str, ...], dict[str, int]] = {}  # the other axes' values -> value of this axis -> row
        for row, of in enumerate(values):
            if axis in of:
                settings.setdefault(tuple(of.get(name, "") for name in others), {})[of[axis]] = row
        shown = [name for name in varying_axes(list(axes), values) if name != axis]
        texts = {key: joined(dict(zip(others, key, strict=True)), shown) for key in settings}
        for b, a in combinations(labels, 2):
            both = {texts[key]: (rows[a], rows[b]) for key, rows in settings.items() if a in rows and b in rows}
            if both:
                found += _effects(axis, a, b, both, sample, seed_means, pairs)
    return found


def correct_effects(effects: list[AxisEffect], alpha: float) -> None:
    """Holm over all given effects; the smallest detectable difference is that at Holm's strictest step."""
    for effect, p in zip(effects, holm([effect.p_value for effect in effects]), strict=True):
        effect.p_corrected = p
        effect.smallest_detectable = smallest_detectable(effect.standard_error, effect.users, alpha / len(effects))


def find_reversals(effects: list[AxisEffect], pairs: PairIndex, alpha: float) -> None:
    """Fills in `reversed_settings` from the corrected pairs of the comparison."""
    for effect in effects:
        for setting, (a, b) in effect.rows.items():
            pair = pairs.get((a, b, effect.metric)) or pairs.get((b, a, effect.metric))
            if pair and pair.p_corrected < alpha and effect.settings[setting] * effect.difference < 0:
                effect.reversed_settings.append(setting)


def _effects(
    axis: str,
    a: str,
    b: str,
    both: dict[str, tuple[int, int]],
    sample: Sample,
    seed_means: list[SeedMeans],
    pairs: PairIndex,
) -> list[AxisEffect]:
    plus, minus = [one for one, _ in both.values()], [other for _, other in both.values()]
    known = _known(plus[0], minus[0], sample.metrics, pairs) if len(both) == 1 else None
    shared = set.intersection(*(set(seed_means[row]) for row in (*plus, *minus)))
    found = []
    for place, tested in enumerate(known or sample.contrast(plus, minus)):
        by_setting = sample.means[plus, place] - sample.means[minus, place]
        by_seed = [
            np.mean([seed_means[x][seed][place] - seed_means[y][seed][place] for x, y in both.values()])
            for seed in shared
        ]
        effect = AxisEffect(
            axis,
            a,
            b,
            tested.metric,
            tested.difference,
            tested.low,
            tested.high,
            tested.p_value,
            tested.effect_size,
            tested.standard_error,
            tested.users,
            settings=dict(zip(both, by_setting.tolist(), strict=True)),
            seed_deviation=float(np.std(by_seed, ddof=1)) if len(by_seed) > 1 else None,
            setting_deviation=float(np.std(by_setting, ddof=1)) if len(both) > 1 else None,
            rows=both,
        )
        found.append(effect)
    return found


def _known(a: int, b: int, metrics: list[str], pairs: PairIndex) -> list[Pair] | None:
    """a - b where the comparison has tested them already, in either direction."""
    if (a, b, metrics[0]) in pairs:
        return [pairs[a, b, metric] for metric in metrics]
    if (b, a, metrics[0]) not in pairs:
        return None
    other = [pairs[b, a, metric] for metric in metrics]
    return [
        replace(
            pair, a=a, b=b, difference=-pair.difference, low=-pair.high, high=-pair.low, effect_size=-pair.effect_size
        )
        for pair in other
    ]
