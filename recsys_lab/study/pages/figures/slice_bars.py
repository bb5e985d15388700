"""Where the metric comes from: its mean in slices of the test targets."""

from __future__ import annotations

from recsys_lab.report.figure import Figure, data_of, points
from recsys_lab.study.pages.figures.looks import Looks
from recsys_lab.study.results import Block
from recsys_lab.words import titled

TITLES = {
    "history_length": "earlier events of the user",
    "popularity": "tenth of the items by popularity (10 = most popular)",
    "gap": "time since the user's last event, at most",
    "repeat": "whether the user has had the target before",
    "cold": "whether the target has training events",
}
MOST = 4
"""Variants in a figure."""


def slice_figures(block: Block, looks: Looks) -> list[Figure]:
    """One for each dimension with at least two slices."""
    found = block.slices
    if found is None:
        return []
    dimensions = dict.fromkeys(part.dimension for part in found.slices)
    counts = {d: sum(part.dimension == d for part in found.slices) for d in dimensions}
    return [_figure(block, dimension, looks) for dimension in dimensions if counts[dimension] > 1]


def _figure(block: Block, dimension: str, looks: Looks) -> Figure:
    import altair as alt

    found = block.slices
    assert found is not None
    label = titled(found.metric, found.cutoff)
    shown = found.variants[:MOST]
    by_name = {line.name: (row, line) for row, line in zip(block.comparison.rows, block.lines, strict=True)}
    looks_found, series = looks.of([by_name[name] for name in shown])
    look = dict(zip(shown, looks_found, strict=True))
    here = [one for one in found.slices if one.dimension == dimension]
    rows = [
        {
            "name": part.variant,
            **look[part.variant],
            "slice": one.name + (" *" if one.is_small else ""),
            "mean": part.mean,
            "low": part.low,
            "high": part.high,
            "users": one.users,
            "share": one.share_of_targets,
        }
        for one in here
        for part in one.parts
        if part.variant in shown
    ]
    base = alt.Chart().encode(
        y=alt.Y("slice:N", sort=None, title=None),
        yOffset=alt.YOffset("name:N", sort=shown),
    )
    tips = [
        alt.Tooltip("name:N", title="variant"),
        alt.Tooltip("slice:N"),
        alt.Tooltip("mean:Q", title=label, format=".4f"),
        alt.Tooltip("low:Q", format=".4f"),
        alt.Tooltip("high:Q", format=".4f"),
        alt.Tooltip("users:Q", format=","),
        alt.Tooltip("share:Q", title="share of targets", format=".1%"),
    ]
    chart = alt.layer(
        base.mark_rule(strokeWidth=2).encode(
            x=alt.X("low:Q", title=f"{label}, interval over users", scale=alt.Scale(zero=False)),
            x2="high:Q",
            color=series["color"],
        ),
        base.mark_point(filled=True, size=50, opacity=1).encode(
            x=alt.X("mean:Q", scale=alt.Scale(zero=False)), **points(series), tooltip=tips
        ),
        data=data_of(rows),
    ).properties(height=len(here) * max(20, 9 * len(shown) + 6))
    small = (
        " Slices with * have fewer than 30 users: do not rely on their intervals."
        if any(one.is_small for one in here)
        else ""
    )
    more = f" Drawn: {len(shown)} of {len(found.variants)} variants." if len(found.variants) > len(shown) else ""
    return Figure(
        f"slices-{dimension.replace('_', '-')}-{block.key}",
        f"{label} by {TITLES.get(dimension, dimension)}",
        chart,
        f"{label} of {', '.join(shown)} in slices by {dimension.replace('_', ' ')} on {block.title}",
        f"Each target is in exactly one slice.{small}{more}",
    )
