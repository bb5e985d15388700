"""Reliability: how likely a model called its first item, and how often that came true."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recsys_lab.report.figure import Figure, by_series, data_of, points
from recsys_lab.report.palette import Palette

WHEN = {"before": "as given", "after": "temperature fitted"}


def reliability_figure(
    name: str, title: str, runs: Mapping[str, Any], kind: str, palette: Palette, note: str, keys: Mapping[str, str]
) -> Figure:
    """A dot is a bin of test targets; on the dashed diagonal confidence and accuracy agree.

    Args:
        runs: name of a run, as the figure shows it -> `test.bins` of its calibration.json; at most `SERIES`.
        kind: of the bins, `equal_width` or `equal_mass`.
        keys: name of a run -> what the palette knows it by.
    """
    import altair as alt

    rows = [
        {
            "name": run,
            "when": WHEN[when],
            "confidence": confidence,
            "accuracy": accuracy,
            "targets": count,
            "what": f"{count:,} targets: called {confidence:.2%} likely, {accuracy:.2%} came true",
        }
        for run, bins in runs.items()
        for when in WHEN
        for confidence, accuracy, count in zip(
            *(bins[when][kind][part] for part in ("confidence", "accuracy", "count")), strict=True
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
    series = by_series(palette.slots(list(runs), [keys[run] for run in runs]))
    chart = alt.layer(
        ideal.mark_line(style="faint", strokeDash=[5, 4]).encode(x=x, y=y),
        base.mark_line(strokeWidth=1.8).encode(color=series["color"], strokeDash=when, detail="when:N"),
        base.mark_point(filled=True, opacity=1).encode(
            **points(series),
            tooltip=tips,
            size=alt.Size("targets:Q", legend=None, scale=alt.Scale(range=[30, 90])),
            description=alt.Description("what:N"),
        ),
        data=data_of(rows),
    ).properties(height=300)
    return Figure(name, title, chart, f"{title} of {', '.join(runs)}", note)
