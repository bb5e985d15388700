"""Reliability: how likely a model called its first item, and how often that came true."""

from __future__ import annotations

from recsys_lab.report.figure import Figure, by_series, data_of, points
from recsys_lab.report.palette import Palette
from recsys_lab.report.theme import SERIES
from recsys_lab.study.results import Block

WHEN = {"before": "as given", "after": "temperature fitted"}


def reliability_figure(block: Block, palette: Palette) -> Figure | None:
    """Of the variants that `diagnose calibration` was run for; None where there are none."""
    import altair as alt

    entries = [entry for entry in block.calibration if entry.bins][:SERIES]
    if not entries:
        return None
    slots = palette.slots([e.name for e in entries], [block.lines[e.row].match for e in entries])
    rows = [
        {"name": entry.name, "when": WHEN[when], "confidence": confidence, "accuracy": accuracy, "targets": count}
        for entry in entries
        for when in WHEN
        for confidence, accuracy, count in zip(
            *(entry.bins[when]["equal_mass"][part] for part in ("confidence", "accuracy", "count")), strict=True
        )
    ]
    top = max(max(row["confidence"], row["accuracy"]) for row in rows) * 1.05
    ideal = alt.Chart(data_of([{"confidence": 0, "accuracy": 0}, {"confidence": top, "accuracy": top}]))
    x = alt.X("confidence:Q", title="called so likely", axis=alt.Axis(format="~%"), scale=alt.Scale(domain=[0, top]))
    y = alt.Y("accuracy:Q", title="came true", axis=alt.Axis(format="~%"), scale=alt.Scale(domain=[0, top]))
    when = alt.StrokeDash(
        "when:N",
        scale=alt.Scale(domain=list(WHEN.values()), range=[[1, 0], [4, 3]]),
        legend=alt.Legend(symbolType="stroke"),
    )
    tips = [
        alt.Tooltip("name:N", title="variant"),
        alt.Tooltip("when:N", title="probabilities"),
        alt.Tooltip("confidence:Q", title="called so likely", format=".2%"),
        alt.Tooltip("accuracy:Q", title="came true", format=".2%"),
        alt.Tooltip("targets:Q", format=","),
    ]
    base = alt.Chart().encode(x=x, y=y)
    series = by_series(slots)
    chart = alt.layer(
        ideal.mark_line(style="faint", strokeDash=[5, 4]).encode(x=x, y=y),
        base.mark_line(strokeWidth=1.8).encode(color=series["color"], strokeDash=when, detail="when:N"),
        base.mark_point(filled=True, size=55, opacity=1).encode(**points(series), tooltip=tips),
        data=data_of(rows),
    ).properties(height=300)
    return Figure(
        f"calibration-{block.key}",
        "Reliability",
        chart,
        f"Reliability of {', '.join(entry.name for entry in entries)} on {block.title}",
        "Bins of equal mass, first seed. Below the dashed diagonal a model is over-confident.",
    )
