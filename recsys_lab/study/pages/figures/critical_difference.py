"""A critical-difference diagram after Demsar (2006): places on a line, bars over what does not differ significantly."""

from __future__ import annotations

from typing import Any

from recsys_lab.report.figure import Figure, data_of
from recsys_lab.study.results import CriticalDifference

MOST = 20
BOTH = 42
"""Characters of two labels that fit beside each other on a phone."""
ROW, LANE = 23, 9
"""Pixels between labels, and between bars."""


def critical_difference_figure(found: CriticalDifference, name: str, cutoff: int) -> Figure | None:
    """None for fewer than two systems. Better is to the right."""
    import altair as alt

    names, places = found.names[:MOST], found.places[:MOST]
    if len(names) < 2:
        return None
    groups = [kept for group in found.groups if len(kept := [i for i in group if i < len(names)]) > 1]
    span = (max(places) - min(places)) or 1.0
    best_is_low = found.kind == "rank"
    cd = found.critical_difference
    edges = (min(min(places) - 0.25 * span, max(places) - (cd or 0.0)), max(places) + 0.25 * span)
    top = LANE * (len(groups) + 1)  # arms begin below the bars
    half = (len(names) + 1) // 2
    texts = [f"{name}  {place:{'.2f' if best_is_low else '.4f'}}" for name, place in zip(names, places, strict=True)]
    # long labels from both sides would meet on a phone: those on the left then begin below those on the right
    meet = max(map(len, texts[:half])) + max(map(len, texts[half:])) > BOTH
    systems: list[dict[str, Any]] = []
    for i, (system, place, text) in enumerate(zip(names, places, texts, strict=True)):
        right = i < half
        far = edges[0] if right is best_is_low else edges[1]
        row = i if right else len(names) - 1 - i + (half if meet else 0)
        depth = top + ROW * (row + 1)
        systems.append({"name": system, "place": place, "far": far, "depth": depth, "zero": 0, "text": text})
        systems[-1]["right"] = right
    bars = [
        {"from": min(places[i] for i in group), "to": max(places[i] for i in group), "depth": LANE * (k + 1)}
        for k, group in enumerate(groups)
    ]
    height = top + ROW * (len(names) if meet else half) + 12
    if best_is_low and cd is not None:
        bars.append({"from": max(places) - cd, "to": max(places), "depth": height - 6})
    title = f"mean rank by {found.metric}@{cutoff}" if best_is_low else f"mean {found.metric}@{cutoff}"
    line: dict[str, Any] = dict(
        title=f"{title} over {found.count:,} {found.unit}, better to the right",
        scale=alt.Scale(domain=sorted(edges, reverse=best_is_low), nice=False, zero=False),
        axis=alt.Axis(orient="top", grid=False, tickCount=5),
    )
    x = alt.X("place:Q", **line)
    pixels = alt.Scale(domain=[height, 0], nice=False, zero=False)
    y, axis_line = alt.Y("depth:Q", axis=None, scale=pixels), alt.Y("zero:Q", axis=None, scale=pixels)
    base = alt.Chart()
    layers = [
        base.mark_rule(style="faint").encode(x=x, y=axis_line, y2="depth:Q"),
        base.mark_rule(style="faint").encode(x=x, x2="far:Q", y=y),
        base.mark_point(filled=True, size=34, style="ink", opacity=1, clip=False).encode(x=x, y=axis_line),
        alt.Chart(data_of(bars))
        .mark_rule(style="accent", strokeWidth=5, strokeCap="round")
        .encode(x=alt.X("from:Q", **line), x2="to:Q", y=y),
    ]
    for right, align in ((True, "right"), (False, "left")):
        half_of = base.transform_filter(f"datum.right === {str(right).lower()}")
        for style in ("halo", "label"):
            layers.append(
                half_of.mark_text(style=style, align=align, dy=-7, limit=alt.ExprRef("width * 0.97")).encode(
                    x=alt.X("far:Q", **line), y=y, text="text:N", tooltip=[alt.Tooltip("text:N", title="system")]
                )
            )
    how = (
        "Bars join systems whose mean ranks differ by less than the critical difference (Nemenyi)"
        if best_is_low
        else "Bars join systems that do not differ significantly"
    )
    note = ". ".join(part.rstrip(".") for part in (how, found.note) if part) + "."
    if cd is not None:
        note += f" CD = {cd:.2f}, the bar at the bottom; Friedman test p = {found.p_value:.3g}."
    if len(names) < len(found.names):
        note += f" Drawn: the {len(names)} best of {len(found.names)}."
    described = "; ".join(f"{row['text']}" for row in systems[:6])
    return Figure(
        name,
        "Critical differences",
        alt.layer(*layers, data=data_of(systems)).properties(height=height),
        f"Critical-difference diagram, best first: {described}",
        note,
    )
