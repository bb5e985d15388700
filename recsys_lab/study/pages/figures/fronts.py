"""Quality against cost, with the Pareto front."""

from __future__ import annotations

from collections.abc import Sequence

from recsys_lab.report.figure import Figure, data_of, points
from recsys_lab.study.pages.figures.looks import Looks
from recsys_lab.study.results import Block
from recsys_lab.words import titled

TITLES = {"train_seconds": "training seconds", "parameters": "parameters"}
FORMATS = {"train_seconds": ",~r", "parameters": "~s"}
NOTES = {
    "train_seconds": " Seconds are counted until the fit ended, with validation, as a mean over seeds.",
    "parameters": "",
}


def front_figures(block: Block, looks: Looks) -> list[Figure]:
    """One for each cost that differs between rows that were trained."""
    return [figure for cost in TITLES if (figure := _figure(block, cost, looks)) is not None]


def on_front(spent: Sequence[float], values: Sequence[float]) -> list[bool]:
    """Of each point: nothing else is at least as cheap and as good, and better in one."""
    pairs = list(zip(spent, values, strict=True))
    return [not any(s <= cost and v >= value and (s, v) != (cost, value) for s, v in pairs) for cost, value in pairs]


def _figure(block: Block, cost: str, looks: Looks) -> Figure | None:
    import altair as alt

    comparison, title = block.comparison, TITLES[cost]
    metric, label = comparison.deciding, titled(comparison.deciding, comparison.cutoff)
    shown = [
        (row, line, spent)
        for row, line in zip(comparison.rows, block.lines, strict=True)
        if (spent := row.mean_of(cost)) is not None
    ]
    if len(shown) < 2 or len({spent for _, _, spent in shown if spent}) < 2:
        return None  # all trained rows cost the same: there is nothing to see
    costs = [spent for _, _, spent in shown]
    left = min((spent for spent in costs if spent), default=1.0) / 3  # a log scale has no 0: left of all others
    look, series = looks.of([(row, line) for row, line, _ in shown])
    flags = on_front(costs, [row.estimates[metric].mean for row, _, _ in shown])
    rows = [
        {
            "name": line.name,
            **colours,
            "cost": spent,
            "x": spent or left,
            "value": row.estimates[metric].mean,
            "low": row.intervals[metric][0],
            "high": row.intervals[metric][1],
            "front": is_on_front,
        }
        for (row, line, spent), colours, is_on_front in zip(shown, look, flags, strict=True)
    ]
    scale = alt.Scale(type="log", nice=False, domain=[left / 1.3, 1.3 * max(*costs, left)])
    axis = alt.Axis(tickCount=4, format=FORMATS[cost], grid=False)
    x = alt.X("x:Q", title=f"{title} (log scale)", scale=scale, axis=axis)
    y = alt.Y("value:Q", title=label, scale=alt.Scale(zero=False))
    tips = [
        alt.Tooltip("name:N", title="variant"),
        alt.Tooltip("cost:Q", title=title, format=",.0f"),
        alt.Tooltip("value:Q", title=label, format=".4f"),
        alt.Tooltip("low:Q", format=".4f"),
        alt.Tooltip("high:Q", format=".4f"),
        alt.Tooltip("front:N", title="on the front"),
    ]
    base = alt.Chart().encode(x=x, y=y)
    best = base.transform_filter("datum.front")
    chart = alt.layer(
        best.mark_line(style="faint", interpolate="step-after"),
        base.mark_rule(strokeWidth=1, opacity=0.45).encode(y=alt.Y("low:Q"), y2="high:Q", color=series["color"]),
        base.mark_point(filled=True, size=75, opacity=0.95).encode(**points(series), tooltip=tips),
        data=data_of(rows),
    ).properties(height=300)
    described = ", ".join(str(row["name"]) for row in rows if row["front"])
    return Figure(
        f"front-{cost.replace('_', '-')}-{block.key}",
        f"{label} against {title}",
        chart,
        f"{label} against {title} on {block.title}; on the front: {described}",
        "The line joins the variants that no other one beats at the same cost or less. Bars are intervals over "
        f"users.{NOTES[cost]}" + " Variants without a cost stand at the left edge." * (0.0 in costs),
    )
