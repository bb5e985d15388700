"""The effect of each axis: variants that differ in this axis only, tested together by the one rule."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from recsys_lab.statistics.pairs import Difference, Sample
from recsys_lab.study.results.names import Values, joined, varying_axes

if TYPE_CHECKING:
    from recsys_lab.study.results.block import Block


@dataclass(slots=True, kw_only=True)
class AxisEffect(Difference):
    """Value `a` minus value `b` of an axis in one metric: the mean over all settings of the other axes. `a` is the
    better one in the deciding metric.

    settings: the other axes' values -> the difference there, mean over seeds; in how many settings it was compared.
    setting_deviation: standard deviation over the settings; None for a single one.
    rows: setting -> the two rows of the comparison.
    reversed_settings: settings in which the difference has the other sign and is significant after correction.
    """

    axis: str
    a: str
    b: str
    settings: dict[str, float] = field(default_factory=dict)
    setting_deviation: float | None = None
    rows: dict[str, tuple[int, int]] = field(default_factory=dict)
    reversed_settings: list[str] = field(default_factory=list)


def axis_effects(axes: dict[str, list[str]], values: list[Values], sample: Sample, deciding: str) -> list[AxisEffect]:
    """All effects inside one block, not corrected yet.

    Only what the axis varies varies: a variant is compared with the one that has the same value in every other axis. A
    setting of the other axes where one of the two was excluded or is not finished is left out, for both.

    Args:
        axes: axis -> labels of its values, in order.
        values: of each row; empty for rows that take no part.
        sample: of the rows.
        deciding: the metric that says which value is the better one.
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
                found += _effects(axis, a, b, both, sample, deciding)
    return found


def find_reversals(block: Block) -> None:
    """Fills in `reversed_settings` from the corrected pairs of the comparison."""
    for effect in block.effects:
        for setting, (a, b) in effect.rows.items():
            pair = block.pair_of(a, b, effect.metric)
            is_significant = pair is not None and pair.is_significant(block.comparison.method.alpha)
            if is_significant and effect.settings[setting] * effect.difference < 0:
                effect.reversed_settings.append(setting)


def _effects(
    axis: str, a: str, b: str, both: dict[str, tuple[int, int]], sample: Sample, deciding: str
) -> list[AxisEffect]:
    place = sample.metrics.index(deciding)
    plus, minus = [one for one, _ in both.values()], [other for _, other in both.values()]
    if sample.means[plus, place].mean() < sample.means[minus, place].mean():
        a, b, plus, minus = b, a, minus, plus
    rows = dict(zip(both, zip(plus, minus, strict=True), strict=True))
    found = []
    for place, facts in enumerate(sample.contrast(plus, minus)):
        by_setting = sample.means[plus, place] - sample.means[minus, place]
        effect = AxisEffect(
            axis=axis,
            a=a,
            b=b,
            settings=dict(zip(rows, by_setting.tolist(), strict=True)),
            setting_deviation=float(np.std(by_setting, ddof=1)) if len(rows) > 1 else None,
            rows=rows,
            **facts,
        )
        found.append(effect)
    return found
