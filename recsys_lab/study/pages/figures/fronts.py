"""Quality against cost, with the Pareto front."""

from __future__ import annotations

import math
from typing import Any

from recsys_lab.report.figure import Figure, by_series, data_of, points
from recsys_lab.report.palette import Palette
from recsys_lab.report.theme import SERIES
from recsys_lab.study.results import Block, Front

TITLES = {
    "train_seconds": "training seconds (log scale)",
    "parameters": "parameters (log scale)",
}
SHORT = {"train_seconds": "training seconds", "parameters": "parameters"}
MOST_LABELS = 6


def front_figures(block: Block, palette: Palette) -> list[Figure]:
    return [_figure(block, front, palette) for front in block.fronts if len(front.points) > 1]


def _figure(block: Block, front: Front, palette: Palette) -> Figure:
    import altair as alt

    label = f"{front.metric}@{block.comparison.cutoff}"
    costs = [point.cost for point in front.points if point.cost > 0]
    # a log scale has no 0: what costs nothing stands left of all others
    left = 10 ** (math.floor(math.log10(min(costs))) - 0.5) if costs else 0.1
    is_free = any(point.cost <= 0 for point in front.points)
    families, slots = _families(block, palette)
    rows: list[dict[str, Any]] = [
        {
            "name": point.name,
            "family": families[point.row],
            "cost": point.cost,
            "x": max(point.cost, left),
            "value": point.value,
            "low": point.low,
            "high": point.high,
            "front": point.is_on_front,
        }
        for point in front.points
    ]
    on_front = sorted((row for row in rows if row["front"]), key=lambda row: row["x"])
    best_of_each = [row for row in on_front if row is on_front[-1] or len(on_front) <= MOST_LABELS]
    domain = [left / 1.3 if is_free else min(costs) / 1.3, max(costs, default=1.0) * 1.3]
    axis = alt.Axis(format="~s", tickCount=4, grid=False, labelExpr=f"datum.value < {left * 1.01} ? '' : datum.label")
    x = alt.X("x:Q", title=TITLES[front.cost], scale=alt.Scale(type="log", domain=domain, nice=False), axis=axis)
    y = alt.Y("value:Q", title=label, scale=alt.Scale(zero=False))
    tips = [
        alt.Tooltip("name:N", title="variant"),
        alt.Tooltip("cost:Q", title=SHORT[front.cost], format=",.0f"),
        alt.Tooltip("value:Q", title=label, format=".4f"),
        alt.Tooltip("low:Q", format=".4f"),
        alt.Tooltip("high:Q", format=".4f"),
        alt.Tooltip("front:N", title="on the front"),
    ]
    base = alt.Chart().encode(x=x, y=y)
    text = alt.Chart(data_of(best_of_each)).encode(x="x:Q", y="value:Q", text="name:N")
    written = {
        "dy": -11,
        "limit": alt.ExprRef("width * 0.6"),
        "align": alt.ExprRef("scale('x', datum.x) > width * 0.6 ? 'right' : 'left'"),
    }
    chart = alt.layer(
        alt.Chart(data_of(on_front)).mark_line(style="faint", interpolate="step-after").encode(x="x:Q", y="value:Q"),
        base.mark_rule(strokeWidth=1, opacity=0.45).encode(
            y=alt.Y("low:Q"), y2="high:Q", color=by_series(slots, "family")["color"]
        ),
        base.mark_point(filled=True, size=75, opacity=0.95).encode(**points(by_series(slots, "family")), tooltip=tips),
        text.mark_text(style="halo", **written),
        text.mark_text(style="label", **written),
        data=data_of(rows),
    ).properties(height=300)
    note = "The line joins what nothing beats at its cost or below; bars are intervals over users."
    if front.cost == "train_seconds":
        note += " Seconds until the fit ended, validation included, mean over seeds."
    if is_free:
        note += " What has no cost stands at the left edge."
    return Figure(
        f"front-{front.cost.replace('_', '-')}-{block.key}",
        f"{label} against {SHORT[front.cost]}",
        chart,
        f"{label} against {SHORT[front.cost]} on {block.title}; on the front: "
        + ", ".join(row["name"] for row in on_front[:8]),
        note,
    )


def _families(block: Block, palette: Palette) -> tuple[list[str], list[str]]:
    """What each row is coloured by, and its slots: its own name where there are few rows, or else its value of the
    first axis that has few values here; counted baselines that nobody asked for are one family."""
    rows, lines = block.comparison.rows, block.lines
    asked = [line for row, line in zip(rows, lines, strict=True) if not row.is_automatic]
    most = SERIES - 1
    by = "" if len(asked) <= most else None
    for axis in asked[0].values if by is None else ():
        if by is None and 1 < len({line.values.get(axis, "other") for line in asked}) <= most:
            by = axis
    names, keys = [], []
    for row, line in zip(rows, lines, strict=True):
        if row.is_automatic:
            name = key = "baselines"
        elif by is None:
            name = key = "variants"
        elif by == "":
            name, key = line.name, line.match
        else:
            name = key = line.values.get(by, "other")
        names.append(name)
        keys.append(key)
    first = dict(zip(names, keys, strict=True))
    return names, palette.slots(list(first), list(first.values()))
