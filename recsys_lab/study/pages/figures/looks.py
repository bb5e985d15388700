"""How rows of a study look in its figures: the factor that matters most has the colours, the next one the shapes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from recsys_lab.report.figure import by_series
from recsys_lab.report.palette import Palette
from recsys_lab.report.theme import SERIES
from recsys_lab.runs.comparison import Row
from recsys_lab.study.results import Block, Line, StudyResults
from recsys_lab.study.results.names import value_name, varying_axes

TRAINED, BASELINE = "trained", "untrained baseline"


class Looks:
    """The same in every figure and block. In a grid of two axes or more, a colour is a value of one of them and a
    shape, or dash, a value of another; otherwise all three are those of the variant. Untrained baselines are grey.

    factors: the axis that has the colours and the one that has the shapes; empty where the study is no grid.
    """

    def __init__(self, results: StudyResults) -> None:
        self.factors = grid_factors(results)
        asked = [line for block in results.blocks for line in _asked(block)]
        self._palettes = [Palette(results.axes[axis]) for axis in self.factors] or [Palette(one.match for one in asked)]

    def of(
        self, rows: Sequence[tuple[Row, Line]], are_told_apart: bool = True
    ) -> tuple[list[dict[str, str]], dict[str, Any]]:
        """Of the rows that a figure shows: columns `colour` and `form` of its data, and the encodings `color`, `shape`
        and `strokeDash` of them. Rows that are not told apart, or have too many values for it, are all `trained`."""
        trained = [line for row, line in rows if not row.is_counted]
        places = range(max(1, len(self.factors)))
        names = [dict([self._part(line, place) for line in trained]) for place in places]
        if not are_told_apart or any(len(one) > SERIES for one in names):
            names, parts = [{TRAINED: ""}], {line.name: [TRAINED] for line in trained}
            slots = [[TRAINED, *(f"unused {slot}" for slot in range(1, SERIES))]]
        else:
            parts = {line.name: [self._part(line, place)[0] for place in places] for line in trained}
            slots = [p.slots(list(of), list(of.values())) for p, of in zip(self._palettes, names, strict=True)]
        if len(trained) < len(rows):
            slots = [[*one, BASELINE] for one in slots]  # grey in the legend of the colours says it
        shown = [[BASELINE] if row.is_counted else parts[line.name] for row, line in rows]
        return [{"colour": one[0], "form": one[-1]} for one in shown], by_series(slots[0], "colour", slots[-1], "form")

    def _part(self, line: Line, place: int) -> tuple[str, str]:
        """For its colour (0), or in a grid for its form (1): its name in a legend, and what it is in every block."""
        value = line.values.get(self.factors[place]) if self.factors else None
        return (line.name, line.match) if value is None else (value_name(self.factors[place], value), value)

    @property
    def chosen_by(self) -> str:
        """What a click on the legend brings out."""
        return f"a value of {self.factors[0]} in the legend" if self.factors else "a name in the legend"


def grid_factors(results: StudyResults) -> list[str]:
    """The axis with the largest effect on the deciding metric and the one with the next, of those that vary within a
    block; empty for fewer than two. Axes with more values than can be told apart come last."""
    varying = [axis for axis in results.axes if any(axis in _varying(block, results) for block in results.blocks)]

    def size(axis: str) -> float:
        found = [
            abs(effect.difference) / max(row.estimates[effect.metric].mean for row in block.comparison.rows)
            for block in results.blocks
            for effect in block.effects
            if effect.axis == axis and effect.metric == block.comparison.deciding
        ]
        return max(found, default=0.0)

    order = sorted(varying, key=lambda axis: (len(results.axes[axis]) > SERIES, -size(axis)))
    return order[:2] if len(order) > 1 else []


def _varying(block: Block, results: StudyResults) -> list[str]:
    return varying_axes(list(results.axes), [line.values for line in _asked(block)])


def _asked(block: Block) -> list[Line]:
    return [line for row, line in zip(block.comparison.rows, block.lines, strict=True) if not row.is_automatic]
